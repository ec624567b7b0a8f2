"""Square: windows at places of their own, the published schedule, every query counted, no query wasted."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from assay.attacks.square import HALVINGS, Square, share_of
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.oracle import TorchOracle, frozen
from assay.core.problem import Problem
from assay.core.search import Keeps, search
from assay.core.threat import L1, L2, Linf, Threat
from tests.support.bench import Curved, Remembering

SHAPE = (2, 9, 14)
MODEL = Curved(SHAPE)
X = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(2)) * 0.4 + 0.3
Y = MODEL(X).argmax(1)


def path(attack: Square, threat: Threat, x: Tensor = X, keeps: Keeps = Keeps.LAST) -> list[Tensor]:
    oracle = Remembering(TorchOracle(MODEL))
    with frozen(MODEL):
        search(attack, Problem(oracle, x, Untargeted(Y), threat), Draws(torch.arange(6), 3), keeps=keeps)
    return [points for _, points, _ in oracle.looks]


def windows(change: Tensor) -> list[tuple[int, int, int, int]]:
    """Return top, left, height and width of what changed, image by image."""
    boxes = []
    for one in change.abs().amax(1) > 0:
        down, across = one.any(1).nonzero().flatten(), one.any(0).nonzero().flatten()
        size = [int(at[-1] - at[0]) + 1 if len(at) else 0 for at in (down, across)]
        boxes.append((int(down[0]) if len(down) else -1, int(across[0]) if len(across) else -1, *size))
    return boxes


def test_linf_begins_with_stripes_of_the_whole_budget() -> None:
    first = path(Square(1), Linf(0.1))[0] - X
    assert torch.allclose(first.abs(), torch.full_like(X, 0.1))
    assert torch.equal(first.sign(), first.sign()[:, :, :1].expand_as(first)), "every column has one sign"
    assert len({tuple(row.sign().flatten().tolist()) for row in first}) == 6, "every sample its own"


def test_linf_changes_one_square_to_the_edge_of_the_budget() -> None:
    class Never(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            # every change makes it worse for the attacker
            self.seen = getattr(self, "seen", 0) + 1
            return torch.stack([torch.full((len(x),), float(self.seen)), torch.zeros(len(x))], 1) + x.sum() * 0

    oracle = Remembering(TorchOracle(Never()))
    zero = Untargeted(torch.zeros(6, dtype=torch.int64))
    search(Square(60, 0.3), Problem(oracle, X, zero, Linf(0.1)), Draws(torch.arange(6), 3))
    points = [points for _, points, _ in oracle.looks]
    assert len(points) == 60
    places = set()
    for t, point in enumerate(points[1:-1]):
        change = point - points[0]
        share = 0.3 * 0.5 ** sum(t > limit for limit in HALVINGS)
        side = max(round((share * 9 * 14) ** 0.5), 1)
        for top, left, height, width in windows(change):
            # never nothing, though a sign may already be there in one of the channels or on some of the stripes
            assert 1 <= height <= side
            assert 1 <= width <= side
            places.add((top + height, left))
        assert torch.allclose((point - X).abs(), torch.full_like(X, 0.1), atol=1e-6)
    assert len(places) > 40
    assert max(bottom for bottom, _ in places) == 9, "the last row is in reach"
    assert torch.equal(points[-1], points[0]), "the last look confirms the best point"


@pytest.mark.parametrize("threat", [L2(0.2), L1(0.3)], ids=["l2", "l1"])
def test_bumps_spend_the_budget_and_no_more(threat: Threat) -> None:
    for point in path(Square(40), threat):
        size = threat.size(point, X)
        assert bool((size <= float(threat.eps) * (1 + 1e-5)).all())
        assert bool((size >= float(threat.eps) * 0.999).all()), "images far from the box lose nothing to it"


def test_the_schedule_can_be_stretched_over_the_queries() -> None:
    assert share_of(0.8, 10) == 0.8
    assert share_of(0.8, 11) == 0.4
    assert share_of(0.8, 0, among=100) == 0.8
    assert share_of(0.8, 1, among=100) == 0.2
    assert share_of(0.8, 99, among=100) == 0.8 / 512


@pytest.mark.parametrize("threat", [Linf(0.1), L2(1.0), L1(6.0)], ids=["linf", "l2", "l1"])
def test_the_objective_of_the_kept_point_never_falls(threat: Threat) -> None:
    with frozen(MODEL):
        problem = Problem(TorchOracle(MODEL), X, Untargeted(Y), threat)
        gaps = [search(Square(n), problem, Draws(torch.arange(6), 3), keeps=Keeps.LAST).gap for n in (2, 10, 40)]
    assert bool((gaps[0] <= gaps[1]).all())
    assert bool((gaps[1] <= gaps[2]).all())
    assert bool((gaps[2] > gaps[0]).any())


def test_queries_are_all_queries() -> None:
    with frozen(MODEL):
        found = search(Square(7), Problem(TorchOracle(MODEL), X, Untargeted(Y), Linf(1e-4)), Draws(torch.arange(6), 3))
    assert found.queries.tolist() == [7] * 6
    assert found.backwards.tolist() == [0] * 6


def test_begins_where_it_is_told() -> None:
    start = (X + 0.05).clamp(0, 1)
    oracle = Remembering(TorchOracle(MODEL))
    problem = dataclasses.replace(Problem(oracle, X, Untargeted(Y), Linf(0.1)), start=start)
    with frozen(MODEL):
        search(Square(3), problem, Draws(torch.arange(6), 3))
    assert torch.equal(oracle.looks[0][1], start)


def test_bad_settings() -> None:
    for p in (0.0, 1.5, float("nan")):
        with pytest.raises(BadInput, match="expected the share of the image"):
            Square(p=p)
    with pytest.raises(BadInput, match="queries is 0"):
        Square(0)
    with pytest.raises(BadInput, match="infinite"):
        path(Square(3), Threat(Linf(1).norm))
