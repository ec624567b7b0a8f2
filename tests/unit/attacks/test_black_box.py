"""Attacks by scores or labels alone: exact distances on planes, exact counts, and what is special about each."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from assay.attacks.boundary import Boundary
from assay.attacks.estimated import nes, spsa
from assay.attacks.hop_skip_jump import HopSkipJump
from assay.attacks.one_pixel import OnePixel
from assay.attacks.parts.dct import cosines, from_waves
from assay.attacks.simba import Basis, SimBA, simba
from assay.core.compose import run
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.oracle import Access, TorchOracle
from assay.core.search import Keeps
from assay.core.threat import NORMS, Threat
from tests.support.bench import Case, Linear, Remembering


def plane(norm: str, eps: float = math.inf, n: int = 12) -> tuple[Case, torch.Tensor]:
    """Return images before a plane, with their distance to it in the norm, no box near."""
    maker = torch.Generator().manual_seed(4)
    weight = torch.randn(48, 2, generator=maker)
    x = 0.4 + 0.2 * torch.rand(n, 3, 4, 4, generator=maker)
    difference = weight[:, 0] - weight[:, 1]
    lead = x.flatten(1) @ difference
    dual = difference.abs().sum() if norm == "linf" else difference.norm()
    case = Case(Linear(weight, torch.zeros(2)), x, Untargeted((lead < 0).long()), Threat(NORMS[norm], eps))
    return case, lead.abs() / dual


@pytest.mark.parametrize(
    ("attack", "norm", "factor"),
    [
        (HopSkipJump(600, smoothness=0.0), "l2", 1.25),
        (HopSkipJump(600), "l2", 1.25),
        (HopSkipJump(600, smoothness=0.0), "linf", 1.25),
        (Boundary(1200, smoothness=0.0), "l2", 1.25),
        (Boundary(1200), "l2", 1.25),
    ],
    ids=str,
)
def test_labels_find_the_distance_to_a_plane(attack, norm: str, factor: float) -> None:
    case, distance = plane(norm)
    found = case.run(attack)
    assert bool(found.success.all())
    assert bool((found.size > 0.999 * distance).all())
    assert float((found.size / distance).median()) < factor
    assert found.queries.tolist() == [attack.queries] * len(distance)


@pytest.mark.parametrize("attack", [HopSkipJump(60, tries=9), Boundary(60, tries=9)], ids=["hop-skip-jump", "boundary"])
def test_labels_without_a_start_give_up(attack) -> None:
    class Deaf(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.ones(len(x)), torch.zeros(len(x))], 1)

    case, _ = plane("l2")
    found = case.but(model=Deaf(), goal=Untargeted(torch.zeros(12, dtype=torch.int64))).run(attack)
    assert not bool(found.success.any())
    # the image, and nine images of noise
    assert found.queries.tolist() == [10] * 12
    assert torch.equal(found.x, case.x)


@pytest.mark.parametrize("attack", [HopSkipJump(60), Boundary(60)], ids=["hop-skip-jump", "boundary"])
def test_labels_are_done_where_the_image_is_wrong(attack) -> None:
    case, _ = plane("l2")
    found = case.but(goal=Untargeted(1 - case.goal.y)).run(attack)
    assert found.size.tolist() == [0.0] * 12
    assert found.queries.tolist() == [1] * 12


@pytest.mark.parametrize("attack", [HopSkipJump(20), Boundary(20)], ids=["hop-skip-jump", "boundary"])
def test_labels_start_where_the_problem_says(attack) -> None:
    case, _ = plane("l2")
    oracle = Remembering(TorchOracle(case.model))
    start = torch.where(case.x > 0.5, 0.0, 1.0)
    run(attack, dataclasses.replace(case.problem(oracle), start=start), case.draws)
    assert torch.equal(oracle.looks[0][1], case.x)
    assert torch.equal(oracle.looks[1][1], start)


@pytest.mark.parametrize("bad", [{"probe": 0.0}, {"tolerance": 1.0}])
def test_hop_skip_jump_refuses_nonsense(bad) -> None:
    with pytest.raises(BadInput, match="between 0 and 1"):
        HopSkipJump(**bad)


def test_cosines_are_a_basis() -> None:
    torch.testing.assert_close(cosines(7, 7, torch.ones(1)) @ cosines(7, 7, torch.ones(1)).T, torch.eye(7))
    flat = from_waves(torch.zeros(1, 1, 4, 6).index_fill_(3, torch.tensor([0]), 0.0))
    assert float(flat.abs().max()) == 0
    mean = torch.zeros(1, 1, 4, 6)
    mean[..., 0, 0] = 1
    torch.testing.assert_close(from_waves(mean), torch.full((1, 1, 4, 6), 24**-0.5))


@pytest.mark.parametrize("attack", [nes(900, pairs=20), spsa(900, pairs=20)], ids=["nes", "spsa"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_estimates_climb_a_plane(attack, norm: str) -> None:
    case, distance = plane(norm)
    found = case.but(threat=case.threat.at(2 * distance)).run(attack)
    assert bool(found.success.all())
    stood = case.but(threat=case.threat.at(0.98 * distance)).run(attack)
    assert not bool(stood.success.any())
    # 21 steps of 41, and the last look
    assert stood.queries.tolist() == [862] * 12


def test_estimates_refuse_too_few_queries() -> None:
    with pytest.raises(BadInput, match="no step"):
        nes(50, pairs=25)


@pytest.mark.parametrize("basis", list(Basis))
def test_simba_asks_at_most_twice_along_each_direction(basis: Basis) -> None:
    case, distance = plane("l2")
    oracle = Remembering(TorchOracle(case.model))
    found = case.but(threat=case.threat.at(0.9 * distance)).run(SimBA(60, 0.01, basis), Keeps.LAST, oracle)
    assert found.queries.tolist() == [60] * 12
    points = torch.stack([points for _, points, _ in oracle.looks])
    assert torch.equal(points[0], case.x)
    # on a plane one of the two ways always helps: what is kept after 59 queries is 30 directions or more
    moved = ((found.x - case.x).flatten(1).norm(dim=1) / (0.009 * distance)) ** 2
    assert bool((moved > 25).all())
    assert bool((moved < 60).all())


def test_simba_breaks_what_it_can_reach() -> None:
    case, distance = plane("linf")
    found = case.but(threat=case.threat.at(1.1 * distance)).run(simba(200))
    # every value is turned the right way within two queries
    assert bool(found.success.all())
    assert bool((found.queries <= 1 + 2 * 48).all())


def test_one_pixel_finds_the_pixel() -> None:
    class Spot(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.full((len(x),), 0.5), x[:, 0, 2, 3] - x[:, 2, 2, 3]], 1)

    x = torch.full((5, 3, 5, 6), 0.5)
    case = Case(Spot(), x, Untargeted(torch.zeros(5, dtype=torch.int64)), Threat(NORMS["l0"], 3))
    found = case.run(OnePixel(30, 30))
    assert bool(found.success.all())
    changed = (found.x != x).any(1).flatten(1)
    assert changed.sum(1).tolist() == [1] * 5
    assert changed[:, 2 * 6 + 3].all()


def test_one_pixel_spends_what_it_is_given() -> None:
    case, _ = plane("l2")
    threat = Threat(NORMS["l0"], torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 7.0] * 2))
    attack = OnePixel(6, 4)
    oracle = Remembering(TorchOracle(case.model))
    found = case.but(threat=threat).run(attack, Keeps.LAST, oracle)
    assert found.queries.tolist() == [30] * 12
    for _, points, _ in oracle.looks:
        assert bool(((points != case.x).flatten(1).sum(1) <= threat.eps).all())
    assert bool((found.size[1:5] > 0).all())


def test_one_pixel_refuses_a_population_too_small() -> None:
    with pytest.raises(BadInput, match="4 or more"):
        OnePixel(3)


def test_access() -> None:
    assert HopSkipJump().access is Boundary().access is Access.LABELS
    assert SimBA().access is OnePixel().access is Access.SCORES
