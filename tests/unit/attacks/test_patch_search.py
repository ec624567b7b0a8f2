"""The search for patches: places in the order of what they promise, all of them where asked, and the best values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.attacks import build
from assay.attacks.patch_search import PatchSearch
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.oracle import TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps, search
from assay.core.threat import Patch
from tests.support.bench import Remembering
from tests.support.checks import patch_distance


class Linear(nn.Module):
    """Two classes; the second leads by `weight . x - lead`."""

    def __init__(self, weight: Tensor, lead: float) -> None:
        super().__init__()
        self.weight, self.lead = nn.Parameter(weight), lead

    def forward(self, x: Tensor) -> Tensor:
        led = x.flatten(1) @ self.weight.flatten() - self.lead
        return torch.stack([torch.zeros_like(led), led], 1)


def looked_at(attack: PatchSearch, model: nn.Module, x: Tensor, side: int, keeps: Keeps = Keeps.WORST) -> list[Tensor]:
    """Return the points `[N, C, H, W]` of each look."""
    oracle = Remembering(TorchOracle(model))
    goal = assay.Untargeted(torch.zeros(len(x), dtype=torch.int64))
    search(attack, Problem(oracle, x, goal, Patch(side)), Draws(torch.arange(len(x))), keeps=keeps)
    return [points for _, points, _ in oracle.looks]


def test_one_place_finds_what_the_best_square_of_a_linear_model_gains() -> None:
    """Brute force over all squares says which sides are enough: one place less than that, and none is broken."""
    maker = torch.Generator().manual_seed(0)
    weight, x = torch.randn(3, 7, 8, generator=maker), torch.rand(1, 3, 7, 8, generator=maker)
    gains = (weight.abs() * torch.where(weight > 0, 1 - x, x)).sum(1)
    at_x = float((x[0] * weight).sum())
    for lead in (2.0, 9.0):
        side = int(patch_distance(gains, torch.tensor([lead])))
        model = Linear(weight, at_x + lead)
        y = torch.zeros(1, dtype=torch.int64)
        assert bool(assay.attack(PatchSearch(1, 8), model, x, y, threat=Patch(side)).success)
        assert side == 1 or not bool(assay.attack(PatchSearch(99, 2), model, x, y, threat=Patch(side - 1)).success)


def test_every_place_is_tried_once_the_best_first_and_no_more_is_spent() -> None:
    maker = torch.Generator().manual_seed(1)
    weight = torch.rand(1, 6, 6, generator=maker) - 0.5
    x = torch.full((1, 1, 6, 6), 0.5)
    # out of reach: all is tried
    attack = PatchSearch(places=100, inner=2)
    points = looked_at(attack, Linear(weight, 1000.0), x, 3)
    assert len(points) == 1 + 16 * 2
    squares = []
    for first, second in zip(points[1::2], points[2::2], strict=True):
        changed = (first != x)[0, 0].nonzero()
        corner = changed.amin(0)
        assert torch.equal(changed.amax(0) - corner, torch.tensor([2, 2])) and len(changed) == 9
        assert not bool(((second != x) & (first == x)).any())
        squares.append((int(corner[0]), int(corner[1])))
    assert len(set(squares)) == 16
    gain = weight[0].abs().unfold(0, 3, 1).unfold(1, 3, 1).sum((2, 3))
    assert squares[0] == divmod(int(gain.argmax()), 4)
    # the second one is no neighbour of the first
    assert max(abs(a - b) for a, b in zip(*squares[:2], strict=True)) * 2 >= 3
    found = assay.attack(attack, Linear(weight, 1000.0), x, torch.zeros(1, dtype=torch.int64), threat=Patch(3))
    assert found.forwards.tolist() == [33] and not bool(found.success)


def test_a_small_weak_place_is_found_by_its_slope_alone() -> None:
    """Of 576 places one lets the model be fooled, and its slope is no larger than that of others."""

    class Weak(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            spot = (x[:, 0, 20:22, 5:7] - 0.9).clamp_min(0).sum((1, 2)) + 0.001 * x[:, 0, 20:22, 5:7].sum((1, 2))
            elsewhere = 0.002 * x[:, 0, :8, 10:].sum((1, 2))
            return torch.stack([torch.full_like(spot, 0.3), spot + elsewhere], 1)

    x, y = torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64)
    assert not bool(assay.attack(PatchSearch(1, 6), Weak(), x, y, threat=Patch(5)).success)
    found = assay.attack(PatchSearch(40, 6), Weak(), x, y, threat=Patch(5))
    assert bool(found.success) and float(found.size) <= 5
    assert int(found.forwards) < 1 + 40 * 6


def test_the_last_point_is_the_best_one() -> None:
    maker = torch.Generator().manual_seed(2)
    model, x = Linear(torch.randn(1, 5, 5, generator=maker), 1000.0), torch.rand(4, 1, 5, 5, generator=maker)
    points = looked_at(PatchSearch(3, 3), model, x, 2, Keeps.LAST)
    assert len(points) == 1 + 3 * 3 + 1
    with torch.no_grad():
        led = torch.stack([model(one)[:, 1] for one in points])
    assert torch.equal(led[-1], led.amax(0))


def test_masks_starts_and_other_norms() -> None:
    x, y = torch.full((2, 1, 6, 6), 0.5), torch.zeros(2, dtype=torch.int64)
    model = Linear(torch.ones(1, 6, 6), 19.0)
    corner = torch.zeros(6, 6)
    corner[:2, :2] = 1
    assert bool(assay.attack(PatchSearch(1, 4), model, x, y, threat=Patch(2)).success.all())
    found = assay.attack(PatchSearch(30, 4), model, x, y, threat=Patch(3, mask=corner))
    assert bool(found.success.all()) and bool(((found.x_adv != x) <= (corner > 0)).all())
    with pytest.raises(BadInput, match="patch-search works in the norm patch, not in linf"):
        assay.attack(PatchSearch(), model, x, y, threat=assay.Linf(0.1))
    for options, says in (({"places": 0}, "places is 0"), ({"inner": 0}, "inner is 0")):
        with pytest.raises(BadInput, match=says):
            build("patch-search", **options)


def test_the_smallest_patch_is_found_by_bisection() -> None:
    x, y = torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64)
    model = Linear(torch.ones(1, 8, 8), 15.5)
    found = assay.attack(build("patch-search", places=1, inner=4, smallest=6), model, x, y, threat=Patch(8))
    assert found.size.tolist() == [4, 4, 4]
