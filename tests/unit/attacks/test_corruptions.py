"""Corruptions: known levels, order, and what they do to an image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.baselines import ContrastReduction, GaussianBlur, SaltAndPepper
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.oracle import TorchOracle
from assay.core.problem import Problem
from assay.core.search import SearchResult, search
from assay.core.threat import L0, L2, UNBOXED, Linf, Threat


class Reads(nn.Module):
    """Class 0 while a property of the image is above a threshold, else class 1."""

    def __init__(self, read, threshold: float) -> None:
        super().__init__()
        self.read, self.threshold = read, threshold

    def forward(self, x: Tensor) -> Tensor:
        value = self.read(x) - self.threshold
        return torch.stack([value, -value], 1)


def spread(x: Tensor) -> Tensor:
    return x.flatten(1).amax(1) - x.flatten(1).amin(1)


def run(attack, model: nn.Module, x: Tensor, threat: Threat) -> SearchResult:
    y = torch.zeros(len(x), dtype=torch.int64)
    draws = Draws.of([str(i) for i in range(len(x))], 0)
    return search(attack, Problem(TorchOracle(model), x, Untargeted(y), threat), draws)


def test_contrast_falls_in_even_levels_and_stops_at_the_first_success() -> None:
    x = torch.tensor([0.0, 1.0]).repeat(4).view(1, 1, 2, 4)
    found = run(ContrastReduction(10), Reads(spread, 0.45), x, Linf(1))
    # at level 6 of 10 the spread is 0.4
    assert bool(found.success)
    assert torch.allclose(found.x, 0.5 + 0.4 * (x - 0.5))
    assert int(found.queries) == 7
    assert float(found.size) == pytest.approx(0.3)


def test_the_budget_bounds_a_corruption() -> None:
    x = torch.tensor([0.0, 1.0]).repeat(4).view(1, 1, 2, 4)
    found = run(ContrastReduction(10), Reads(spread, 0.45), x, Linf(0.2))
    assert not bool(found.success)
    assert 0.1 < float((found.x - x).abs().max()) <= 0.2 + 1e-6, "the furthest level inside the budget"
    assert int(found.queries) == 7


def test_blur_keeps_the_mean_of_a_flat_image_and_smooths_an_edge() -> None:
    flat = torch.full((1, 3, 5, 7), 0.3)
    blurred = run(GaussianBlur(4), Reads(lambda x: x.mean((1, 2, 3)), 0.0), flat, L2(10))
    assert torch.allclose(blurred.x, flat, atol=1e-6)
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 1
    found = run(GaussianBlur(20, 0.5), Reads(lambda x: (x[..., 4] - x[..., 3]).mean((1, 2)), 0.4), edge, L2(10))
    assert bool(found.success)
    row = found.x[0, 0, 0]
    assert bool((row.diff() >= -1e-6).all()), "from dark to bright without an overshoot"
    assert torch.allclose(row + row.flip(0), torch.ones(8), atol=1e-5), "both sides alike"


def test_salt_and_pepper_only_add_up() -> None:
    x = torch.rand(20, 1, 10, 10, generator=torch.Generator().manual_seed(0)).mul(0.8).add(0.1)
    untouched = Reads(lambda z: ((z > 0) & (z < 1)).flatten(1).double().mean(1), 0.7)
    found = run(SaltAndPepper(50), untouched, x, L0(100))
    assert bool(found.success.all())
    changed = found.x != x
    assert set(found.x[changed].unique().tolist()) <= {0.0, 1.0}
    shares = changed.flatten(1).double().mean(1)
    assert bool(((shares >= 0.3) & (shares < 0.45)).all()), "the first level that is enough"
    assert 0.3 < float((found.x[changed] == 1).double().mean()) < 0.7


def test_without_a_box_the_image_s_own_extremes_are_black_and_white() -> None:
    x = torch.tensor([[-3.0, 0.0, 2.0, 5.0]]).view(1, 1, 2, 2)
    free = Threat(L2(100).norm, 100.0, box=UNBOXED)
    found = run(ContrastReduction(1), Reads(spread, 1.0), x, free)
    assert torch.allclose(found.x, torch.ones_like(x))
