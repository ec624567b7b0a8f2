"""Finite differences: the slope of a plane, in expectation and along each probe, at the cost it says."""

from __future__ import annotations

import pytest
import torch

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.finite_differences import Directions, FiniteDifferences
from assay.core.goal import Untargeted
from assay.core.objective import differences, margin
from assay.core.oracle import Access, TorchOracle, frozen
from assay.core.tensors import flat
from tests.support.bench import Linear

WEIGHT = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MODEL = Linear(WEIGHT, torch.zeros(3, dtype=torch.float64))
X = torch.rand(4, 1, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
GOAL = Untargeted((X.flatten(1) @ WEIGHT).argmax(1))
DRAWS = Draws.of([f"image {i}" for i in range(4)], 0)


def look(lens, objective=margin, rows=slice(None), access=Access.GRADIENT):
    with frozen(MODEL):
        oracle = lens(TorchOracle(MODEL))
        return oracle.look(X[rows], Untargeted(GOAL.y[rows]), objective, access, Draws(DRAWS.ids[rows]))


@pytest.mark.parametrize("directions", list(Directions))
def test_many_probes_find_the_slope(directions: Directions) -> None:
    with frozen(MODEL):
        true = TorchOracle(MODEL).look(X, GOAL, margin, Access.GRADIENT, DRAWS).grad
    seen = look(FiniteDifferences(3000, 1e-5, directions))
    assert seen.grad.shape == X.shape
    assert bool((flat(seen.grad - true).norm(dim=1) < 0.12 * flat(true).norm(dim=1)).all())


def test_one_pair_is_the_slope_along_its_probe() -> None:
    lens = FiniteDifferences(1, 1e-5, Directions.SIGNS)
    with frozen(MODEL):
        true = TorchOracle(MODEL).look(X, GOAL, margin, Access.GRADIENT, DRAWS).grad
    estimate = look(lens).grad
    # g = u (u . true) with u of signs: |g| is the same everywhere, and g . true = (u . true)^2
    slope = flat(estimate).abs()
    torch.testing.assert_close(slope, slope[:, :1].expand_as(slope))
    torch.testing.assert_close(flat(estimate * true).sum(1), slope[:, 0] ** 2, rtol=1e-4, atol=1e-6)


def test_costs_two_per_pair_and_one() -> None:
    lens = FiniteDifferences(7)
    seen = look(lens)
    assert seen.cost.forwards.tolist() == [15] * 4
    assert seen.cost.backwards.tolist() == [0] * 4
    assert lens.passes == (15, 0)
    assert lens.access is Access.SCORES
    assert look(lens, access=Access.SCORES).cost.forwards.tolist() == [1] * 4


def test_a_row_does_not_feel_its_neighbours() -> None:
    # one row has its pairs asked about together, four rows in parts
    lens = FiniteDifferences(50, 1e-2)
    torch.testing.assert_close(look(lens, rows=slice(2, 3)).grad, look(lens).grad[2:3])


def test_a_vector_objective_has_a_jacobian() -> None:
    seen = look(FiniteDifferences(2000, 1e-5), differences(2))
    assert seen.grad.shape == (4, 2, 1, 3, 4)
    first = WEIGHT.T[GOAL.y]
    for r in range(2):
        others = (X.flatten(1) @ WEIGHT).scatter(1, GOAL.y[:, None], -torch.inf).topk(2, 1).indices[:, r]
        true = WEIGHT.T[others] - first
        assert bool((flat(seen.grad[:, r]) - true).norm(dim=1).lt(0.15 * true.norm(dim=1)).all())


@pytest.mark.parametrize("bad", [{"pairs": 0}, {"sigma": 0.0}])
def test_refuses_nonsense(bad) -> None:
    with pytest.raises(BadInput, match="expected"):
        FiniteDifferences(**bad)
