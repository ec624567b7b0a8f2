"""FGSM, BIM and PGD without a random start give the images and predictions of three other libraries."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import assay
from benchmarks.peers import PEERS, Recipe

pytestmark = pytest.mark.peers

CLASSES, SHAPE = 10, (3, 12, 12)


class Small(nn.Module):
    """A convolutional network with weights from one seed."""

    input_shape, classes = SHAPE, CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(3)
    return Small().eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Images with flat black and white parts, where the box cuts the ball."""
    torch.manual_seed(5)
    return (torch.rand(32, *SHAPE) * 1.6 - 0.3).clamp(0, 1)


@pytest.fixture(scope="module")
def labels(model: nn.Module, images: Tensor) -> Tensor:
    """The model's own answers for most images, a wrong label for every fourth: those are attacked as well."""
    own = model(images).argmax(1)
    return torch.where(torch.arange(len(own)) % 4 == 0, (own + 1) % CLASSES, own)


RECIPES = {
    "fgsm 1/255": (assay.FGSM(), Recipe("fgsm", 1 / 255)),
    "fgsm 0.1": (assay.FGSM(), Recipe("fgsm", 0.1)),
    "bim": (assay.BIM(steps=10), Recipe("bim", 0.05, steps=10, size=0.005)),
    "bim overlong step": (assay.BIM(steps=7, step_size=0.4), Recipe("bim", 0.05, steps=7, size=0.02)),
    "pgd": (assay.PGD(steps=20, random_start=False), Recipe("pgd", 8 / 255, steps=20, size=1 / 255)),
    "pgd large": (
        assay.PGD(steps=10, step_size=0.1, random_start=False),
        Recipe("pgd", 0.3, steps=10, size=0.03),
    ),
}


@pytest.mark.parametrize("case", RECIPES)
@pytest.mark.parametrize("peer", ["foolbox", "torchattacks"])
def test_images_and_predictions_agree(peer: str, case: str, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    # in float64 no rounding turns the sign of a gradient, and the attacks alone are compared
    ours, theirs = both(peer, case, copy.deepcopy(model).double(), images.double(), labels)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", RECIPES)
@pytest.mark.parametrize("peer", PEERS)
def test_they_agree_in_float32(peer: str, case: str, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    # the last bits of a gradient depend on the memory layout, so a sign near zero may turn, and a pixel with it
    ours, theirs = both(peer, case, model, images, labels)
    assert ((ours - theirs).abs() > 1e-6).double().mean() < 1e-4


def both(peer: str, case: str, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return our images and the peer's, after checking that they move and that their predictions agree."""
    attack, recipe = RECIPES[case]
    ours = assay.attack(attack, model, x, y, threat=assay.Linf(recipe.eps), keep="last").x_adv
    theirs = PEERS[peer](model, recipe)(x, y)
    assert (ours - x).abs().max() > 0.9 * recipe.eps
    assert torch.equal(model(ours).argmax(1), model(theirs).argmax(1))
    return ours, theirs
