"""The one loop: which point is kept, when a sample stops, what it may spend, and what an attack may see."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.gradient import BIM, FGSM, PGD, Point
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.objective import Objective, cross_entropy, margin
from assay.core.oracle import Access, Cost, TorchOracle
from assay.core.problem import CachedLook, Problem
from assay.core.search import Keeps, Limits, SearchResult, better, bill, nothing, put, search
from assay.core.sweep import first_look
from assay.core.tensors import take
from assay.core.threat import L2, Linf, Threat
from tests.support.bench import Remembering

# three samples walk along one pixel; the model reads the pixel's height off a table of gaps
HEIGHTS = torch.tensor([0.1, 0.2, 0.3, 0.4])


class Table(nn.Module):
    """Logits `[0, gap]`, where the gap at height h of the first pixel is looked up, row by row of the second pixel."""

    def __init__(self, gaps: Tensor) -> None:
        super().__init__()
        self.gaps = gaps

    def forward(self, x: Tensor) -> Tensor:
        step = (x[:, 0, 0, 0] * 10).round().long()
        row = (x[:, 0, 0, 1] * 10).round().long()
        gap = self.gaps[row, step] + 0 * x.sum((1, 2, 3))
        return torch.stack([torch.zeros_like(gap), gap], 1)


@dataclasses.dataclass(frozen=True)
class Walk:
    """Goes up the first pixel, a tenth at a time."""

    steps: int = 4
    access: Access = Access.SCORES
    objective: Objective = margin
    keeps: Keeps = Keeps.LAST
    gives_up: tuple[int, ...] = ()

    def init(self, problem: Problem, draws: Draws) -> Stroll:
        return Stroll(problem.x, self._row(problem), 0)

    def step(self, state: Stroll, seen, problem: Problem, draws: Draws) -> Stroll:
        up = torch.zeros_like(state.query)
        up[:, 0, 0, 0] = 0.1
        tired = torch.tensor([int(row) in self.gives_up for row in state.row])
        return Stroll(state.query + up, state.row, state.t + 1, tired)

    def _row(self, problem: Problem) -> Tensor:
        return (problem.x[:, 0, 0, 1] * 10).round().long()


class Stroll(NamedTuple):
    query: Tensor
    row: Tensor
    t: int
    done: Tensor | bool = False


GAPS = torch.tensor(
    [
        [-1.0, -2.0, 1.0, 3.0, 2.0],  # broken from the second step on, most in the third
        [-3.0, -2.0, -1.0, -2.0, -2.5],  # never broken, nearest in the second
        [-1.0, 1.0, -1.0, 2.0, -1.0],  # broken, healed, broken, healed
        [5.0, 4.0, -1.0, -1.0, -1.0],  # broken as it is
    ]
)
N = len(GAPS)


def problem(threat: Threat | None = None) -> Problem:
    x = torch.zeros(N, 1, 1, 2)
    x[:, 0, 0, 1] = torch.arange(N) / 10
    y = torch.zeros(N, dtype=torch.int64)
    return Problem(TorchOracle(Table(GAPS)), x, Untargeted(y), threat or Linf(0.5))


DRAWS = Draws(torch.arange(N))


def kept(found: SearchResult) -> list[int]:
    """Return at which step of the walk each sample's result lies."""
    return (found.x[:, 0, 0, 0] * 10).round().long().tolist()


@pytest.mark.parametrize(
    ("keeps", "steps", "success", "looks"),
    [
        (Keeps.LAST, [4, 4, 4, 4], [True, False, False, False], [5, 5, 5, 5]),
        (Keeps.FIRST, [2, 2, 1, 0], [True, False, True, True], [3, 5, 2, 1]),
        (Keeps.WORST, [3, 2, 3, 0], [True, False, True, True], [5, 5, 5, 5]),
        (Keeps.SMALLEST, [2, 2, 1, 0], [True, False, True, True], [5, 5, 5, 5]),
    ],
    ids=lambda v: v.value if isinstance(v, Keeps) else "",
)
def test_which_point_is_kept(keeps: Keeps, steps: list[int], success: list[bool], looks: list[int]) -> None:
    found = search(Walk(), problem(), DRAWS, keeps=keeps)
    assert kept(found) == steps
    assert found.success.tolist() == success
    assert found.gap.tolist() == [float(GAPS[i, step]) for i, step in enumerate(steps)]
    assert torch.allclose(found.logits[:, 1], found.gap)
    assert torch.allclose(found.size, torch.tensor(steps) / 10, atol=1e-6)
    assert found.forwards.tolist() == found.queries.tolist() == found.looks.tolist() == looks
    assert found.backwards.tolist() == [0] * N


def test_the_attack_has_a_default_and_the_caller_decides() -> None:
    assert kept(search(Walk(keeps=Keeps.WORST), problem(), DRAWS)) == [3, 2, 3, 0]
    assert kept(search(Walk(keeps=Keeps.WORST), problem(), DRAWS, keeps=Keeps.LAST)) == [4, 4, 4, 4]


@pytest.mark.parametrize("keeps", list(Keeps))
def test_a_success_outside_the_budget_is_none(keeps: Keeps) -> None:
    """The walk leaves the ball after its first step."""
    found = search(Walk(), problem(Linf(0.15)), DRAWS, keeps=keeps)
    assert found.success.tolist() == [False, False, keeps is not Keeps.LAST, keeps is not Keeps.LAST]
    inside = found.size <= 0.15
    assert bool(inside[found.success].all())


def test_rows_that_give_up_are_left_alone() -> None:
    tired = Walk(gives_up=(1, 3))
    for keeps in (Keeps.FIRST, Keeps.WORST, Keeps.SMALLEST):
        found = search(tired, problem(), DRAWS, keeps=keeps)
        assert found.looks.tolist()[1] == 1, "the first look alone"
        assert kept(found)[1] == 0
    # the last point is asked of everyone
    assert search(tired, problem(), DRAWS, keeps=Keeps.LAST).looks.tolist() == [5] * N


def test_no_steps_is_one_look() -> None:
    found = search(Walk(steps=0), problem(), DRAWS)
    assert found.looks.tolist() == [1] * N
    assert found.success.tolist() == [False, False, False, True]


def test_everyone_finished_ends_the_search() -> None:
    whole = problem()
    last = dataclasses.replace(whole, x=whole.x[3:], goal=Untargeted(whole.goal.y[3:]))
    found = search(Walk(steps=1000), last, DRAWS.take(torch.tensor([3])), keeps=Keeps.FIRST)
    assert found.looks.tolist() == [1]


# ---- terms


@pytest.mark.parametrize("queries", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("keeps", list(Keeps))
def test_no_sample_spends_more_queries_than_it_has(queries: int, keeps: Keeps) -> None:
    found = search(Walk(), problem(), DRAWS, keeps=keeps, terms=Limits(queries=queries))
    assert int(found.queries.max()) <= queries
    # what was seen until then counts
    short = search(Walk(steps=min(4, queries - 1)), problem(), DRAWS, keeps=keeps)
    assert torch.equal(found.success, short.success)
    assert kept(found) == kept(short)


@pytest.mark.parametrize("backwards", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("keeps", [Keeps.LAST, Keeps.FIRST])
def test_no_sample_spends_more_backwards_than_it_has(backwards: int, keeps: Keeps) -> None:
    climbing = Walk(access=Access.GRADIENT)
    found = search(climbing, problem(), DRAWS, keeps=keeps, terms=Limits(backwards=backwards))
    assert int(found.backwards.max()) <= backwards
    if backwards >= 4:
        free = search(climbing, problem(), DRAWS, keeps=keeps)
        assert torch.equal(found.x, free.x), "the last look needs no backward pass"


def test_a_one_step_attack_with_one_backward_is_judged_where_it_arrives() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    model[1].weight.data = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    here = Problem(
        TorchOracle(model), torch.full((1, 1, 2, 2), 0.05), Untargeted(torch.tensor([0])), Linf(0.2, box=False)
    )
    found = search(FGSM(), here, Draws(torch.arange(1)), terms=Limits(backwards=1))
    assert found.success.tolist() == [True]


def test_a_known_look_does_not_stretch_the_budget() -> None:
    here = problem()
    known = CachedLook(here.x, margin, here.oracle.look(here.x, here.goal, margin, Access.SCORES, DRAWS))
    for queries in (1, 2, 3):
        found = search(
            Walk(), dataclasses.replace(here, known=known), DRAWS, keeps=Keeps.WORST, terms=Limits(queries=queries)
        )
        assert int(found.queries.max()) == queries
    assert torch.equal(known.seen.cost.forwards, torch.ones(N, dtype=torch.int64)), "the caller's counts stay"


def test_without_the_last_look_there_is_no_verdict() -> None:
    found = search(Walk(), problem(), DRAWS, keeps=Keeps.LAST, terms=Limits(judge_last=False))
    assert kept(found) == [4, 4, 4, 4]
    assert found.looks.tolist() == [4] * N
    assert not bool(found.success.any())


# ---- known looks


@pytest.mark.parametrize("keeps", list(Keeps))
@pytest.mark.parametrize(
    "method",
    [FGSM(), BIM(3), PGD(3), PGD(3, random_start=False), FGSM(objective=margin)],
    ids=["fgsm", "bim", "pgd", "pgd from the image", "fgsm on the margin"],
)
def test_a_known_look_is_used_where_it_is_the_same_question(method, keeps: Keeps) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x = torch.rand(5, 3, 2, 2)
    here = Problem(TorchOracle(model), x, Untargeted(model(x).argmax(1)), Linf(0.1))
    draws = Draws(torch.arange(5))
    fresh = search(method, here, draws, keeps=keeps)
    known = first_look(method, here, draws)
    again = search(method, dataclasses.replace(here, known=known), draws, keeps=keeps)
    assert torch.equal(again.x, fresh.x)
    assert torch.equal(again.success, fresh.success)
    saved = 0 if getattr(method, "random_start", False) else 1
    assert torch.equal(again.forwards + saved, fresh.forwards)
    assert torch.equal(again.backwards + saved, fresh.backwards)
    assert torch.equal(again.looks + saved, fresh.looks)
    # another objective's gradient is another question
    other = first_look(dataclasses.replace(method, objective=cross_entropy), here, draws)
    if method.objective is not cross_entropy:
        assert torch.equal(
            search(method, dataclasses.replace(here, known=other), draws, keeps=keeps).forwards, fresh.forwards
        )


def test_a_known_look_without_the_gradient_is_not_enough() -> None:
    here = problem()
    known = CachedLook(here.x, cross_entropy, here.oracle.look(here.x, here.goal, cross_entropy, Access.SCORES, DRAWS))
    found = search(FGSM(), dataclasses.replace(here, known=known), DRAWS)
    assert found.forwards.tolist() == [2] * N


def test_a_known_look_at_other_points_is_not_used() -> None:
    here = problem()
    seen = here.oracle.look(here.x, here.goal, margin, Access.SCORES, DRAWS)
    found = search(Walk(), dataclasses.replace(here, known=CachedLook(here.x + 1e-6, margin, seen)), DRAWS)
    assert found.forwards.tolist() == [5] * N


# ---- what an attack may see


@dataclasses.dataclass(frozen=True)
class Curious:
    """Notes what it is shown."""

    access: Access
    shown: list = dataclasses.field(default_factory=list, compare=False)
    steps: int = 1
    objective: Objective = margin
    keeps: Keeps = Keeps.WORST

    def init(self, problem: Problem, draws: Draws) -> Point:
        return Point(problem.x)

    def step(self, state: Point, seen, problem: Problem, draws: Draws) -> Point:
        self.shown.append(seen)
        return state


def test_a_label_attack_cannot_peek() -> None:
    curious = Curious(Access.LABELS)
    found = search(curious, problem(), DRAWS)
    (seen,) = curious.shown
    for hidden in (seen.logits, seen.loss, seen.gap):
        assert bool(hidden.isnan().all())
    assert seen.grad is None
    assert seen.reached.tolist() == [False, False, False, True]
    # the search itself still sees
    assert found.gap.tolist() == GAPS[:, 0].tolist()


def test_a_score_attack_sees_scores_and_no_gradient() -> None:
    curious = Curious(Access.SCORES)
    search(curious, problem(), DRAWS)
    (seen,) = curious.shown
    assert torch.equal(seen.gap, GAPS[:, 0])
    assert seen.grad is None


def test_a_peek_through_a_known_look_is_hidden_too() -> None:
    here = problem()
    known = CachedLook(here.x, margin, here.oracle.look(here.x, here.goal, margin, Access.GRADIENT, DRAWS))
    curious = Curious(Access.LABELS)
    search(curious, dataclasses.replace(here, known=known), DRAWS)
    assert bool(curious.shown[0].logits.isnan().all())
    assert curious.shown[0].grad is None


# ---- better, put, bill


def found_of(success: list[bool], gap: list[float], size: list[float]) -> SearchResult:
    n = len(success)
    found = nothing(torch.zeros(n, 1))
    return found._replace(
        x=torch.arange(n).float()[:, None],
        success=torch.tensor(success),
        gap=torch.tensor(gap),
        size=torch.tensor(size),
        logits=torch.zeros(n, 3),
        forwards=torch.full((n,), 2),
    )


def test_what_is_better() -> None:
    old = found_of([False, False, True, True, True, True], [-1, -1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1])
    new = found_of([False, True, False, True, True, True], [-0.5, 0.1, -1, 2, 0.5, 1], [1, 9, 0, 2, 0.5, 1])
    answers = {
        Keeps.LAST: [True] * 6,
        Keeps.FIRST: [True, True, False, False, False, False],
        Keeps.WORST: [True, True, False, True, False, False],
        Keeps.SMALLEST: [True, True, False, False, True, False],
    }
    for keeps, answer in answers.items():
        assert better(new, old, keeps).tolist() == answer, keeps


def test_put_merges_the_rows_it_is_given_and_adds_all_costs() -> None:
    found = nothing(torch.zeros(4, 1))
    found = put(found, torch.tensor([3, 1]), found_of([True, False], [1.0, -1.0], [1.0, 1.0]), Keeps.WORST)
    assert found.success.tolist() == [False, False, False, True]
    assert found.x.flatten().tolist() == [0, 1, 0, 0]
    assert found.gap.tolist() == [-torch.inf, -1, -torch.inf, 1]
    assert found.logits.shape == (4, 3)
    assert found.logits.isnan().any(1).tolist() == [True, False, True, False]
    # a result that loses is paid for all the same
    found = put(found, torch.tensor([3]), found_of([False], [5.0], [0.0]), Keeps.WORST)
    assert found.success.tolist()[3]
    assert found.forwards.tolist() == [0, 2, 0, 4]


def test_nothing_is_nothing() -> None:
    x = torch.rand(3, 1, 2, 2)
    found = nothing(x)
    assert torch.equal(found.x, x)
    found.x[0] = 0
    assert bool((x[0] > 0).all()), "the caller's images are not written to"
    assert not bool(found.success.any())
    assert [part.sum().item() for part in found.costs] == [0, 0, 0, 0, 0]


def test_bill_counts_what_was_asked() -> None:
    found, here = nothing(torch.zeros(N, 1)), problem()
    seen = here.oracle.look(here.x, here.goal, margin, Access.GRADIENT, DRAWS)
    bill(found, torch.arange(N), seen)
    cost = Cost(torch.tensor([3, 0]), torch.tensor([0, 0]), torch.tensor([1, 0]))
    bill(found, torch.arange(2), take(seen, torch.arange(2))._replace(cost=cost))
    assert found.forwards.tolist() == [4, 1, 1, 1]
    assert found.backwards.tolist() == [1] * N
    assert found.queries.tolist() == [2, 1, 1, 1]
    assert found.looks.tolist() == [2, 1, 1, 1]


# ---- randomness


@dataclasses.dataclass(frozen=True)
class Shaky:
    """Goes somewhere else at every look."""

    steps: int = 4
    access: Access = Access.LABELS
    objective: Objective = margin
    keeps: Keeps = Keeps.FIRST

    def init(self, problem: Problem, draws: Draws) -> Point:
        return Point(problem.threat.start(problem.x, draws))

    def step(self, state: Point, seen, problem: Problem, draws: Draws) -> Point:
        return Point(problem.threat.start(problem.x, draws))


def test_every_look_has_numbers_of_its_own_and_so_has_every_sample() -> None:
    """Also of samples whose neighbours have finished."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x = torch.rand(20, 3, 2, 2)
    oracle = Remembering(TorchOracle(model))
    here, draws = Problem(oracle, x, Untargeted(model(x).argmax(1)), Linf(0.3)), Draws(torch.arange(20))
    found = search(Shaky(), here, draws)
    assert len({len(asked) for asked, _, _ in oracle.looks}) > 1, "some finish on the way"
    moves = [tuple(z.flatten().tolist()) for asked, points, _ in oracle.looks for z in points - x[asked]]
    assert len(set(moves)) == len(moves)
    for part in (torch.tensor([7]), torch.tensor([19, 3, 4])):
        alone = search(Shaky(), take(here, part), draws.take(part))
        assert torch.equal(alone.x, found.x[part])
        assert torch.equal(alone.looks, found.looks[part])


# ---- starts


def test_a_given_start_is_where_the_search_begins() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x = torch.rand(4, 3, 2, 2)
    here = Problem(TorchOracle(model), x, Untargeted(model(x).argmin(1)), L2(0.5))
    start = here.threat.project(x + 0.3, x)
    for method in (PGD(2), BIM(2)):
        found = search(method, dataclasses.replace(here, start=start), Draws(torch.arange(4)), keeps=Keeps.FIRST)
        assert bool(found.success.all())
        assert torch.equal(found.x, start), "every sample is wrong already where it begins"
