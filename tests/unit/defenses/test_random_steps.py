"""Steps that draw numbers: the same for the same look, whatever the batch, and others in another look."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import assay
from assay.attacks import build
from assay.core.draws import Draws, drawing
from assay.defenses.crops import CropEnsemble, ResizePad
from assay.defenses.layers import Rejecting
from assay.defenses.table import DEFENSES, TRANSFORMATIONS
from assay.defenses.transformations import GaussianNoise
from assay.models import Classifier

RANDOM = [name for name, entry in TRANSFORMATIONS.items() if entry.random]


class Small(nn.Module):
    """A little network with dropout, that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(216, 5))
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.layers(x)  # type: ignore[no-any-return]  # what a module or library returns is untyped


def behind(chain: str) -> Classifier:
    return assay.defend(Classifier(Small().eval(), input_shape=(3, 8, 11)), chain)


@pytest.mark.parametrize("name", RANDOM)
def test_a_row_is_drawn_for_itself(name: str) -> None:
    x, module = torch.rand(6, 3, 8, 11), behind(name).module
    draws = Draws.of([f"sample {i}" for i in range(6)], 0)
    few = torch.tensor([4, 1])
    with torch.no_grad():
        with drawing(draws.at(0)):
            whole, again = module(x), module(x)
        with drawing(draws.at(0).take(few)):
            some = module(x[few])
        with drawing(draws.at(1)):
            other = module(x)
        fresh, fresher = module(x), module(x)
    assert torch.equal(whole, again)
    torch.testing.assert_close(some, whole[few], atol=1e-6, rtol=0)
    assert not torch.allclose(whole, other) and not torch.allclose(fresh, fresher)


@pytest.mark.parametrize("name", RANDOM)
def test_attacks_know_that_it_is_random_and_average_over_looks(name: str) -> None:
    x, y, model = torch.rand(3, 3, 8, 11), torch.tensor([0, 1, 2]), behind(name)
    assert model.random and model.passes == DEFENSES[name].passes(model.defenses[0].settings)
    single, mean = (build("fgsm", eot=eot) for eot in (1, 3))
    one, same, averaged = (
        assay.attack(attack, model, x, y, threat=assay.Linf(0.05), seed=1) for attack in (single, single, mean)
    )
    assert torch.equal(one.x_adv, same.x_adv) and torch.equal(one.logits, same.logits)
    assert torch.equal(averaged.backwards, 3 * one.backwards)
    assert not torch.equal(averaged.x_adv, one.x_adv), "the three looks do not differ"


def test_two_steps_in_a_row_draw_other_numbers() -> None:
    x = torch.zeros(1, 1, 100, 100)
    with drawing(Draws.of(["a"], 0)):
        both = behind_identity("gaussian-noise:sigma=1|gaussian-noise:sigma=1")(x)
    assert float(both.std()) == pytest.approx(2**0.5, rel=0.05), "the same noise twice would give 2"


def behind_identity(chain: str) -> nn.Module:
    return assay.defend(Classifier(nn.Flatten()), chain).module


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    noise = GaussianNoise(0.25)(torch.full((1, 1, 200, 200), 0.5)) - 0.5
    assert float(noise.std()) == pytest.approx(0.25, rel=0.02) and abs(float(noise.mean())) < 0.006


def test_a_crop_is_scaled_up_as_torch_does_it() -> None:
    x, seen = torch.rand(2, 3, 9, 12), []
    step = CropEnsemble(Recorded(seen), crops=4, share=0.5)
    step(x)
    places = [(top, left) for top in range(9 - 4 + 1) for left in range(12 - 6 + 1)]
    for crops in seen:
        for image, crop in zip(x, crops, strict=True):
            scaled = [F.interpolate(image[None, :, t : t + 4, f : f + 6], (9, 12), mode="bilinear") for t, f in places]
            assert min(float((one[0] - crop).abs().max()) for one in scaled) < 1e-5


class Recorded(nn.Module):
    """Two logits, of which one is the mean; what is asked about is kept."""

    def __init__(self, seen: list[Tensor]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.stack([x.mean((1, 2, 3)), torch.zeros(len(x))], 1)


def test_the_answer_of_the_ensemble_is_the_mean_probability() -> None:
    x, seen = torch.rand(3, 1, 8, 8), []
    answer = CropEnsemble(Recorded(seen), crops=5)(x).softmax(1)
    one_by_one = torch.stack([Recorded([])(crop).softmax(1) for crop in seen])
    torch.testing.assert_close(answer, one_by_one.mean(0))


def test_a_refusal_inside_the_ensemble_is_that_of_the_mean() -> None:
    x = torch.rand(2, 1, 8, 8)
    entry = DEFENSES["max-softmax"]
    for threshold, refused in ((-2.0, True), (0.0, False)):
        inside = Rejecting(entry.make(), Recorded([]), threshold)
        logits = CropEnsemble(inside, crops=3)(x)
        assert logits.shape == (2, 3) and bool((logits.argmax(1) == 2).all()) == refused


def test_a_smaller_image_stands_on_black_as_torch_shrinks_it() -> None:
    x = torch.rand(8, 3, 10, 20) + 0.1
    moved = ResizePad(0.5)(x)
    sizes = set()
    for image, there in zip(x, moved, strict=True):
        rows, columns = (there.sum(0).sum(dim).nonzero().flatten() for dim in (1, 0))
        tall, long = len(rows), len(columns)
        shrunk = F.interpolate(image[None], (tall, long), mode="bilinear")[0]
        block = there[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        torch.testing.assert_close(block, shrunk, atol=1e-5, rtol=0)
        sizes.add(tall)
        assert 5 <= tall <= 10 and long == 2 * tall
    assert len(sizes) > 2
    assert torch.autograd.gradcheck(_under_one_draw, torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True))


def _under_one_draw(x: Tensor) -> Tensor:
    with drawing(Draws.of(["a", "b"], 0)):
        return ResizePad(0.6)(x)  # type: ignore[no-any-return]  # what a module or library returns is untyped
