"""A linear model and a fixed place: what the best patch is, and what the worst place is, follow from the weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from assay.attacks.patch import Room
from assay.data import Data
from assay.models import Classifier
from assay.patches import Patch, Recipe, measure, train_patch
from assay.patches.evaluate import Where

SIZE, SIDE = 16, 5


def weights() -> Tensor:
    """Return the weights of class 1 less those of class 0, `[3, 16, 16]`."""
    return torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def linear(bias: float) -> Classifier:
    layer = nn.Linear(3 * SIZE * SIZE, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.zeros(weights().numel()), weights().flatten()]))
        layer.bias.copy_(torch.tensor([0.0, bias]))
    return Classifier(nn.Sequential(nn.Flatten(), layer).eval(), "linear", "l", (3, SIZE, SIZE))


def greys(n: int, seed: int) -> Data:
    pixels = 0.4 + 0.2 * torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    ids = tuple(f"grey/{seed}/{i}" for i in range(n))
    return Data("grey", f"grey-{n}-{seed}", ids, (0,) * n, None, (3, SIZE, SIZE), pixels.__getitem__)


def test_the_best_patch_is_white_where_weights_are_positive_and_black_where_not(tmp_path: Path) -> None:
    row, column = 4, 7
    here = weights()[:, row : row + SIDE, column : column + SIDE]
    clean = float((weights() * 0.5).sum())
    # halfway between what a grey patch and the best one leave: the model says 0 until a patch is good
    gain = float((here.abs() * 0.5).sum())
    model = linear(-clean - gain / 2)
    recipe = Recipe(torch.ones(SIDE, SIDE), 1, epochs=25, batch=8, optimizer="adam", rate=0.3, at=(row, column))
    done = train_patch([model], greys(32, 1), recipe, tmp_path)
    best = (here > 0).float()
    clear = here.abs() > 0.3
    assert torch.equal(done.patch.pixels.round()[clear], best[clear])
    new = greys(40, 2)
    fixed = Where(at=(row, column))
    assert measure(done.patch, model, new, fixed).success > 0.95
    for other in (torch.full_like(best, 0.5), torch.rand(best.shape, generator=torch.Generator().manual_seed(3))):
        assert measure(done.patch.with_pixels(other), model, new, fixed).success < 0.05
    losses = [one["loss"] for one in done.log]
    assert losses[-1] < 0.5 * losses[0]


def test_the_worst_place_is_where_the_weights_under_a_white_patch_sum_highest() -> None:
    images, data = torch.stack([greys(6, 4).read(i) for i in range(6)]), greys(6, 4)
    places = Room(SIDE, SIDE, SIZE, SIZE).grid(1)
    gains = torch.stack([
        (weights()[:, r : r + SIDE, c : c + SIDE] * (1 - images[:, :, r : r + SIDE, c : c + SIDE])).flatten(1).sum(1)
        for r, c in places
    ], 1)  # fmt: skip
    before = (images * weights()).flatten(1).sum(1)
    # a bias with which about a tenth of all places succeed
    after = before[:, None] + gains
    bias = -float(after.flatten().quantile(0.9))
    found = measure(Patch(torch.ones(3, SIDE, SIDE), torch.ones(SIDE, SIDE), 1), linear(bias), data, Where(stride=1))
    certain = (after + bias).abs() > 1e-3
    assert torch.equal(found.hits[certain], (after + bias > 0)[certain])
    assert found.worst_place == float((after.amax(1) + bias > 0).double().mean())
    assert 0.05 < found.success < 0.15
