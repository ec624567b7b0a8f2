from __future__ import annotations

import pytest
import torch
from torch import nn

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.defenses.lattice import lattice_noise
from assay.training.losses import CrossEntropy, GaussianAugmentation, Masked

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
DRAWS = Draws(torch.arange(2))


def test_it_is_the_negative_log_likelihood_of_each_sample() -> None:
    loss = CrossEntropy()(nn.Identity(), LOGITS, torch.tensor([0, 2]), DRAWS)
    expected = -LOGITS.softmax(1).log()[torch.arange(2), torch.tensor([0, 2])]
    torch.testing.assert_close(loss, expected)


def test_the_temperature_divides_the_logits() -> None:
    loss = CrossEntropy(100.0)(nn.Identity(), LOGITS, torch.tensor([0, 2]), DRAWS)
    torch.testing.assert_close(loss, CrossEntropy()(nn.Identity(), LOGITS / 100, torch.tensor([0, 2]), DRAWS))


def test_soft_labels() -> None:
    soft = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    loss = CrossEntropy()(nn.Identity(), LOGITS, soft, DRAWS)
    torch.testing.assert_close(loss, -(soft * LOGITS.log_softmax(1)).sum(1))


def test_its_name_says_its_parameters() -> None:
    assert repr(CrossEntropy(20.0)) == "CrossEntropy(temperature=20.0)"


def test_gaussian_augmentation_trains_at_the_noisy_images_that_smoothing_votes_on() -> None:
    x = torch.full((2, 1, 4, 4), 100 / 255)
    seen: list[torch.Tensor] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return LOGITS

    loss = GaussianAugmentation(0.5)(model, x, torch.tensor([0, 2]), DRAWS)  # type: ignore[arg-type]  # any callable
    torch.testing.assert_close(loss, CrossEntropy()(nn.Identity(), LOGITS, torch.tensor([0, 2]), DRAWS))
    levels = (100 + lattice_noise(DRAWS, 0.5, 1, 4, 4).levels).clamp(0, 255)
    assert torch.equal(seen[0], levels / 255)
    other = GaussianAugmentation(0.5, clip=False)
    other(model, x, torch.tensor([0, 2]), DRAWS.fold(1))  # type: ignore[arg-type]  # any callable
    assert float(seen[1].max()) > 1 and float(seen[1].min()) < 0
    assert other.during(0.5) == other and repr(other) == "GaussianAugmentation(sigma=0.5, clip=False)"


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_of_no_size_is_refused(sigma: float) -> None:
    with pytest.raises(BadInput, match="expected a number above 0, at most 8"):
        GaussianAugmentation(sigma)


def test_masked_images_have_squares_at_random_places() -> None:
    x, draws = torch.ones(300, 2, 7, 9), Draws(torch.arange(300))
    for count, fill in ((1, 0.0), (2, 0.25)):
        seen = Masked(3, count, fill).masked(x, draws)
        hidden = seen[:, 0] == fill
        assert torch.equal(seen, torch.where(hidden[:, None], fill, x))
        area = hidden.flatten(1).sum(1)
        assert (area == 9).all() if count == 1 else bool((area >= 9).all() and (area <= 18).all() and (area > 12).any())
        # every place of the upper left corner, about as often as the others
        places = torch.stack([hidden.any(2).int().argmax(1), hidden.any(1).int().argmax(1)], 1)
        if count == 1:
            assert len(places.unique(dim=0)) == 5 * 7
    assert torch.equal(Masked(3).masked(x[5:6], Draws(torch.tensor([5]))), Masked(3).masked(x, draws)[5:6])
    assert not torch.equal(Masked(3).masked(x, draws.fold(1)), Masked(3).masked(x, draws))


def test_the_loss_under_masks_is_that_of_the_masked_images() -> None:
    x, y = torch.rand(2, 1, 3, 3), torch.tensor([0, 2])
    loss = Masked(2, 1)(nn.Flatten(), x, y, DRAWS)
    seen = Masked(2, 1).masked(x, DRAWS).flatten(1)
    torch.testing.assert_close(loss, -seen.log_softmax(1)[torch.arange(2), y])
    assert Masked(2).during(0.5) == Masked(2) and Masked(2).passes == 1
    assert repr(Masked(2)) == "Masked(size=2, count=2, fill=0.0)"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Masked(0), "size is 0; expected a whole number"),
        (lambda: Masked(3, 0), "count is 0"),
        (lambda: Masked(3, fill=1.5), "fill is 1.5; expected a grey level from 0 to 1"),
        (lambda: Masked(4).masked(torch.rand(2, 1, 3, 9), DRAWS), "size is 4, and the images have 3 x 9 pixels"),
    ],
)
def test_squares_that_cannot_be_are_refused(make, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        make()
