"""The smallest budget of an attack, where it is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from assay.attacks import build
from assay.attacks.gradient import FGSM, PGD
from assay.attacks.sigma_zero import SigmaZero
from assay.core.compose import Restarts, SmallestBudget, run, stages
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.oracle import Access, TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.sweep import sweep
from assay.core.threat import NORMS, UNBOXED, Threat
from tests.support.bench import Linear, Remembering

# two classes apart by what the values sum to: the distance in Linf is the gap over the number of values
WEIGHT = torch.stack([torch.ones(16), -torch.ones(16)], 1)
MODEL = Linear(WEIGHT, torch.tensor([-8.0, 8.0]))
DISTANCE = torch.tensor([0.004, 0.06, 0.13, 0.31, 0.49])
X = (0.5 + DISTANCE).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()
Y = torch.zeros(5, dtype=torch.int64)


def problem(norm: str = "linf", eps: float | torch.Tensor = torch.inf, box=(0.0, 1.0), y=Y) -> Problem:
    return Problem(Remembering(TorchOracle(MODEL)), X, Untargeted(y), Threat(NORMS[norm], eps, box))


def attacked(method, given: Problem, keeps: Keeps | None = None):
    return run(method, given, Draws.of([str(i) for i in range(5)], 0), keeps=keeps)


@pytest.mark.parametrize("box", [(0.0, 1.0), UNBOXED])
def test_halving_comes_as_close_as_the_rounds_allow(box) -> None:
    found = attacked(SmallestBudget(FGSM(), 12), problem(box=box))
    assert bool(found.success.all())
    assert bool((found.size >= DISTANCE * 0.999).all())
    assert bool((found.size - DISTANCE <= 0.002).all())
    rough = attacked(SmallestBudget(FGSM(), 4), problem(box=box))
    assert bool((rough.size >= found.size - 1e-6).all())
    assert float((rough.size - DISTANCE).max()) > 0.01


def test_l2_and_restarts() -> None:
    method = SmallestBudget(Restarts(PGD(20, objective=margin), 2), 10)
    found = attacked(method, problem("l2"))
    assert bool(found.success.all())
    assert bool((found.size <= DISTANCE * 4 * 1.1 + 0.01).all())


def test_whole_numbers_end_when_nothing_lies_between() -> None:
    given = problem("l0")
    # one forward for the image itself, and then runs of one step: 1 (of 16 values), 2, 4, ... until the count is known
    found = attacked(SmallestBudget(SigmaZero(30), 30), given)
    assert bool(found.success.all())
    assert int(found.looks.max()) < 8 * 31


def test_a_finite_budget_is_asked_about_first_and_a_sample_that_stands_is_left_alone() -> None:
    given = problem(eps=0.2)
    found = attacked(SmallestBudget(FGSM(), 9), given)
    assert found.success.tolist() == [True, True, True, False, False]
    # the image itself, and one run of two looks
    assert found.forwards.tolist()[3:] == [3, 3]
    assert found.backwards.tolist() == [9, 9, 9, 1, 1]
    asked = [len(who) for who, _, _ in given.oracle.looks]
    assert sum(asked) == int(found.forwards.sum())


def test_an_image_that_is_wrong_as_it_is_costs_one_forward() -> None:
    found = attacked(SmallestBudget(FGSM(), 9), problem(y=1 - Y))
    assert bool(found.success.all())
    assert torch.equal(found.x, X)
    assert found.size.tolist() == [0] * 5
    assert found.forwards.tolist() == [1] * 5
    assert found.backwards.tolist() == [0] * 5


def test_asked_for_the_first_success_it_stops_there() -> None:
    found = attacked(SmallestBudget(FGSM(), 9), problem(eps=0.2), Keeps.FIRST)
    assert found.forwards.tolist() == [3] * 5


def test_one_run_gives_the_curve() -> None:
    budgets = [0.01, 0.1, 0.2, 0.4]
    given = problem()
    curve = sweep(SmallestBudget(FGSM(), 12), given, Draws.of([str(i) for i in range(5)], 0), budgets)
    assert [int(one.success.sum()) for one in curve.found] == [1, 2, 3, 4]
    once = attacked(SmallestBudget(FGSM(), 12), problem())
    assert torch.equal(curve.found[0].forwards, once.forwards)
    assert int(curve.found[1].forwards.sum()) == 0


def test_a_start_is_brought_inside_each_budget() -> None:
    given = dataclasses.replace(problem(), start=torch.zeros_like(X))
    found = attacked(SmallestBudget(PGD(5, objective=margin), 8), given)
    assert bool(found.success.all())
    assert bool((found.size <= DISTANCE + 0.01).all())


def test_what_it_says_about_itself() -> None:
    method = SmallestBudget(Restarts(PGD(), 2))
    assert method.keeps is Keeps.SMALLEST
    assert method.access is Access.GRADIENT
    assert stages(method) == ("pgd",)
    with pytest.raises(BadInput, match="SmallestBudget with 0 rounds"):
        SmallestBudget(PGD(), 0)


def test_by_name() -> None:
    assert build("pgd", smallest=7) == SmallestBudget(PGD(), 7)
    assert build("pgd", smallest=7, restarts=2) == SmallestBudget(Restarts(PGD(), 2), 7)
    assert build("pgd", smallest=0) == PGD()
    with pytest.raises(BadInput, match="smallest is -1, expected a whole number of 0 or more"):
        build("pgd", smallest=-1)
    with pytest.raises(BadInput, match="'ddn' looks for the smallest change by itself: leave out smallest"):
        build("ddn", smallest=5)
