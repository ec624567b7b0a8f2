"""The certificate of double masking: exhaustive answers on small images, and broken ones that these catch."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.attacks import build
from assay.certification import CERTIFICATES, Certificates, make_certificate
from assay.certification.double_masking import DoubleMaskingCertificate
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.problem import Problem
from assay.core.sweep import first_look
from assay.core.threat import Linf, Patch, Threat
from assay.defenses.double_masking import mask_row
from assay.models import Classifier
from tests.support.patches_by_force import certified, contradicted, inference, square_masks


class Net(nn.Module):
    """A small network: sums over windows, and what most of them say; it counts the images that it is shown."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        maker = torch.Generator().manual_seed(seed)
        self.filters = nn.Parameter(torch.randn(6, 1, 3, 3, generator=maker))
        self.last = nn.Parameter(torch.randn(6, 3, generator=maker))
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return torch.conv2d(x, self.filters).tanh().mean((2, 3)) @ self.last


# of this one's answers some can be certified, and some broken
SEED = 4


def pictures(n: int, side: int) -> Tensor:
    return (torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(3)) < 0.5).float()


def behind(net: nn.Module, **options: int) -> Classifier:
    written = ",".join(f"{name}={value}" for name, value in options.items())
    return assay.defend(assay.load_model(net), f"double-masking:{written}")


def problem_of(model: Classifier, x: Tensor, y: Tensor, threat: Threat) -> Problem:
    return Problem(model.oracle(), x, assay.Untargeted(y), threat)


def proved(model: Classifier, x: Tensor, y: Tensor, *budgets: float) -> Certificates:
    problem = problem_of(model, x, y, Patch(2))
    method = make_certificate("double-masking", {})
    method.check(model, problem)
    return method.prove(model, problem, budgets, Draws(torch.arange(len(x))))


def answers(model: Classifier, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.module(x).argmax(1)


def test_no_patch_at_any_place_breaks_what_is_certified() -> None:
    """5 x 5 images, patches of 2 x 2: all places and patterns, against the rule written down a second time."""
    maker = torch.Generator().manual_seed(0)
    masks, counted = square_masks(5, 3, (0, 2)), [0, 0, 0]
    assert mask_row(5, 2, 2) == (3, (0, 2))
    for seed in range(5):
        net, x = Net(seed), (torch.rand(6, 1, 5, 5, generator=maker) < 0.5).float()
        model = behind(net, patch=2, masks=2)
        y = answers(model, x)
        found = proved(model, x, y, 0, 1, 2, 3)
        assert found.certified[1].tolist() == [
            certified(net, one, int(label), masks) for one, label in zip(x, y, strict=True)
        ]
        assert bool(found.certified[0].all()) and not bool(found.certified[3].any())
        assert torch.equal(found.certified[1], found.certified[2])
        assert torch.equal(found.radius, 2.0 * found.certified[2].double())
        for i in range(len(x)):
            broken = contradicted(functools.partial(answers, model), x[i], int(y[i]), 2)
            assert not (broken and bool(found.certified[2, i]))
            counted[0 if found.certified[2, i] else 2 if broken else 1] += 1
    assert min(counted[0], counted[2]) >= 3


def test_passes_and_predictions_of_what_is_not_certified() -> None:
    net, x = Net(SEED), pictures(30, 9)
    model = behind(net, patch=2, masks=3)
    y = answers(model, x)
    y[:3] = (y[:3] + 1) % 3
    net.seen = 0
    found = proved(model, x, y, 2)
    # but for the form in which the model is asked, which is found out once
    assert 0 <= net.seen - int(found.cost.forwards.sum()) <= 4
    assert torch.equal(found.prediction, answers(model, x))
    assert not bool(found.certified[0, :3].any()) and 3 < int(found.certified.sum()) < 27
    assert found.cost.forwards[found.certified[0]].tolist() == [45] * int(found.certified.sum())
    assert not bool(found.cost.backwards.any())
    masks = square_masks(9, 4, (0, 3, 5))
    assert found.certified[0].tolist() == [
        certified(net, one, int(label), masks) for one, label in zip(x, y, strict=True)
    ]
    # what the model is known to say is not asked again
    problem, draws = problem_of(model, x, y, Patch(2)), Draws(torch.arange(30))
    known = dataclasses.replace(problem, known=first_look(assay.PGD(), problem, draws))
    again = DoubleMaskingCertificate().prove(model, known, [2], draws)
    assert torch.equal(again.prediction, found.prediction)
    assert bool((again.cost.forwards <= found.cost.forwards).all())


def test_a_lead_that_the_batch_may_decide_is_no_proof() -> None:
    class Near(nn.Module):
        def __init__(self, lead: float, scale: float = 1.0) -> None:
            super().__init__()
            self.lead, self.scale = lead, scale

        def forward(self, x: Tensor) -> Tensor:
            base = torch.full((len(x),), self.scale)
            return torch.stack([base + self.lead, base], 1)

    x, y = torch.rand(1, 1, 5, 5), torch.zeros(1, dtype=torch.int64)
    for net, holds in ((Near(2e-4), True), (Near(5e-5), False), (Near(2e-3, 100.0), False), (Near(torch.nan), False)):
        assert bool(proved(behind(net, patch=2, masks=2), x, y, 2).certified) is holds


def test_nothing_certified_is_broken_by_the_search_that_knows_the_defence() -> None:
    net, x = Net(SEED), pictures(40, 9)
    model = behind(net, patch=2, masks=3)
    y = answers(model, x)
    found = proved(model, x, y, 2)
    result = assay.attack(build("patch-search", places=4, inner=4), model, x, y, threat=Patch(2))
    assert int(found.certified.sum()) > 5 and int(result.success.sum()) > 1
    assert not bool((found.certified[0] & result.success).any())


class Bright(nn.Module):
    """Says 1 where a fifth of a window is bright."""

    def __init__(self, first: int, after: int) -> None:
        super().__init__()
        self.first, self.after = first, after

    def forward(self, x: Tensor) -> Tensor:
        mean = x[:, 0, self.first : self.after, self.first : self.after].mean((1, 2))
        return torch.stack([torch.full_like(mean, 0.2), mean], 1)


class Dark(nn.Module):
    """Says 0 where more than 20 pixels are black."""

    def forward(self, x: Tensor) -> Tensor:
        black = (x == 0).flatten(1).sum(1).to(x)
        return torch.stack([black, torch.full_like(black, 20.5)], 1)


def doubled(net: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2), net)


BLACK, WHITE = torch.zeros(1, 9, 9), torch.ones(1, 9, 9)
# of a patch of 2 on 9 pixels: masks of 4 at 0, 3 and 5
SOUND = square_masks(9, 4, (0, 3, 5))
BROKEN = {
    # the stride is one too long: no mask holds the pixels 3 and 4
    "stride": (Bright(3, 5), BLACK, square_masks(9, 4, (0, 4, 5)), {}),
    # a patch of 2 is one of 4 after the resize, and masks are made for 2: none holds 4 .. 7
    "resize": (Bright(4, 8), torch.zeros(1, 18, 18), square_masks(18, 7, (0, 6, 11)), {}),
    # all pairs of different masks agree, and every single one says otherwise
    "diagonal": (Dark(), WHITE, SOUND, {"diagonal": False}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_certificates_are_caught(name: str) -> None:
    """A certificate says that the label 0 holds, and some patch (or the image itself) has another answer."""
    net, x, masks, options = BROKEN[name]
    assert certified(net, x, 0, masks, **options)
    image = BLACK if name == "resize" else x

    def answer(images: Tensor) -> Tensor:
        if name == "resize":
            images = nn.functional.interpolate(images, scale_factor=2)
        return torch.tensor([inference(net, one, masks) for one in images])

    assert contradicted(answer, image, 0, 2, plain=True)
    # this project's own says nothing false about the same networks
    model = behind(doubled(net) if name == "resize" else net, patch=2, masks=3)
    holds = bool(proved(model, image[None], torch.zeros(1, dtype=torch.int64), 2).certified)
    assert holds is (name != "diagonal")
    assert contradicted(functools.partial(answers, model), image, 0, 2) is not holds


@pytest.mark.parametrize(
    ("model", "threat", "says"),
    [
        (lambda net: net, Patch(2), "Write .*double-masking:patch=5"),
        (lambda net: behind(net, patch=2), Linf(0.1), "in the norm patch, and the threat is in linf"),
        (lambda net: dataclasses.replace(behind(net, patch=2), random=True), Patch(2), "draws numbers"),
        (lambda net: behind(net.half(), patch=2), Patch(2), "torch.float16: .*Use float32"),
        (lambda net: behind(net, patch=10), Patch(2), "the patch is 10 pixels, and the images have 9"),
    ],
)
def test_what_the_certificate_does_not_speak_of_is_refused(model, threat: Threat, says: str) -> None:
    asked = assay.load_model(model(Net(0)))
    x, y = torch.rand(2, 1, 9, 9), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(BadInput, match=says):
        make_certificate("double-masking", {}).check(asked, problem_of(asked, x, y, threat))


def test_the_table_names_it() -> None:
    assert CERTIFICATES["double-masking"].norms == ("patch",)
    assert make_certificate("double-masking", {}).alpha == 0 == DoubleMaskingCertificate.alpha
