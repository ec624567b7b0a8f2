"""When a model is broken: ranks with ties and NaN, gaps that agree with the verdict, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.core.errors import BadInput
from assay.core.goal import (
    Away,
    Goal,
    OutOfTop,
    Targeted,
    Toward,
    Untargeted,
    answer_of,
    excluded,
    pick,
    rank_of,
    scored,
    without,
)
from assay.core.tensors import take

NAN, INF = torch.nan, torch.inf
QUICK = settings(max_examples=150, deadline=None, derandomize=True, database=None)

# few different values: ties are the rule
tied = st.lists(st.integers(-2, 2).map(float), min_size=4, max_size=6)


def logits_of(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize(
    ("row", "y", "rank"),
    [
        ([1, 2, 3], 2, 1),
        ([1, 2, 3], 0, 3),
        ([2, 2, 2], 0, 1),  # of equals the lower index comes first
        ([2, 2, 2], 1, 2),
        ([2, 2, 2], 2, 3),
        ([3, 2, 3], 2, 2),
        ([-INF, -INF, 0], 1, 3),
        ([-INF, 3, 0], 1, 1),  # a masked class comes last
        ([-INF, 3, 0], 0, 3),
        # a NaN anywhere, an overflow, nothing but masked classes: there is no order, and no answer that could be right
        ([INF, 1, 0], 0, 3),
        ([INF, INF, 0], 1, 3),
        ([-INF, -INF, -INF], 0, 3),
        ([NAN, NAN, NAN], 0, 3),
        ([NAN, 1, 0], 0, 3),
        ([NAN, 1, 0], 1, 3),
        ([2, 1, NAN], 0, 3),
    ],
)
def test_rank(row: list[float], y: int, rank: int) -> None:
    assert rank_of(logits_of([row]), torch.tensor([y])).tolist() == [rank]
    assert (answer_of(logits_of([row])) == y).tolist() == [rank == 1]


@QUICK
@given(tied, st.integers(0, 3))
def test_the_top_rank_is_argmax(row: list[float], y: int) -> None:
    logits, label = logits_of([row]), torch.tensor([y])
    assert (rank_of(logits, label) == 1).tolist() == (logits.argmax(1) == label).tolist()
    assert answer_of(logits).tolist() == logits.argmax(1).tolist()
    ranks = [int(rank_of(logits, torch.tensor([k]))) for k in range(len(row))]
    assert sorted(ranks) == list(range(1, len(row) + 1)), "every class has a rank of its own"


def goals(y: int, k: int) -> list[Goal]:
    label = torch.tensor([y])
    other = torch.tensor([(y + 1) % k])
    uniform = torch.full((1, k), 1 / k)
    return [
        Untargeted(label),
        Targeted(label, other),
        Toward(label, other),
        OutOfTop(label, 1),
        OutOfTop(label, 2),
        OutOfTop(label, k - 1),
        Away(label, uniform),
        Untargeted(label, reject=(y + 2) % k),
        Untargeted(label, reject=(y + 2) % k - k),
        Toward(label, other, reject=(y + 2) % k),
    ]


@QUICK
@given(tied, st.integers(0, 3))
def test_the_gap_is_positive_where_the_goal_is_reached_and_negative_where_not(row: list[float], y: int) -> None:
    logits = logits_of([row])
    for goal in goals(y, len(row)):
        gap, reached = float(goal.gap(logits)), bool(goal.reached(logits))
        if gap != 0:
            assert (gap > 0) == reached, goal
        elif reached:
            # a tie that the order of classes decides
            assert logits.unique().numel() < logits.numel()


@pytest.mark.parametrize(
    ("row", "gap", "reached"),
    [
        ([3, 2, 1, 0], -1, False),
        ([2, 3, 1, 0], 1, True),
        ([2, 1, 3, 0], -2, False),  # class 2 is the refusal
        ([1, 2, 3, 0], -1, False),  # wrong, but refused
        ([1, 3, 2, 0], 1, True),  # has to beat the refusal as well
        ([1, 1, 0, 0], 0, False),
    ],
)
def test_a_refusal_is_no_success(row: list[float], gap: float, reached: bool) -> None:
    for reject in (2, -2):
        for goal in (
            Untargeted(torch.tensor([0]), reject=reject),
            Toward(torch.tensor([0]), torch.tensor([1]), reject=reject),
        ):
            assert goal.gap(logits_of([row])).tolist() == [gap]
            assert goal.reached(logits_of([row])).tolist() == [reached]


def test_climbing_does_not_serve_the_refusal() -> None:
    """With a refusal, neither cross-entropy nor margin gains by going there."""
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0]], requires_grad=True)
    goal = Untargeted(torch.tensor([0]), reject=2)
    for climbed in (goal.surprise, goal.lead):
        (grad,) = torch.autograd.grad(climbed(logits).sum(), logits)
        assert grad[0, 0] < 0
        assert grad[0, 2] <= 0
        assert grad[0, 1] > 0


@QUICK
@given(tied, st.integers(0, 3))
def test_surprise_grows_along_the_goal(row: list[float], y: int) -> None:
    """A small step up the oriented cross-entropy never lowers the logit it is for, nor raises the one against."""
    logits = logits_of([row]).requires_grad_()
    k = len(row)
    for goal in goals(y, k):
        if isinstance(goal, Away):
            continue
        (grad,) = torch.autograd.grad(goal.surprise(logits).sum(), logits)
        if isinstance(goal, Targeted | Toward):
            assert float(pick(grad, goal.t)) >= 0
        else:
            assert float(pick(grad, goal.y)) <= 0


def test_surprise_is_cross_entropy() -> None:
    logits, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    p = logits.softmax(1)
    assert torch.allclose(Untargeted(y).surprise(logits), -pick(p, y).log(), atol=1e-6)
    assert torch.allclose(Targeted(y, y.flip(0)).surprise(logits), pick(p, y.flip(0)).log(), atol=1e-6)
    assert torch.allclose(OutOfTop(y, 2).surprise(logits), -pick(p, y).log(), atol=1e-6)
    refused = Untargeted(y, reject=3).surprise(logits)
    safe = torch.where(y == 3, p[:, 3] * 2, pick(p, y) + p[:, 3])
    assert torch.allclose(refused[y != 3], -safe.log()[y != 3], atol=1e-6)
    reference = torch.randn(5, 4).softmax(1)
    divergence = (reference * (reference.log() - p.log())).sum(1)
    assert torch.allclose(Away(y, reference).surprise(logits), divergence, atol=1e-5)


def test_toward_judges_any_class_and_climbs_one() -> None:
    goal = Toward(torch.tensor([0]), torch.tensor([1]))
    logits = logits_of([[1, 0, 2]])
    assert bool(goal.reached(logits))
    assert goal.gap(logits).tolist() == [1]
    assert goal.lead(logits).tolist() == [-1]


def test_leads_are_gaps_elsewhere() -> None:
    logits = torch.randn(6, 5)
    y = torch.arange(6) % 5
    for goal in (Untargeted(y), Targeted(y, (y + 1) % 5), OutOfTop(y, 2), Untargeted(y, reject=4)):
        assert torch.equal(goal.lead(logits), goal.gap(logits))


@pytest.mark.parametrize("k", [0, -1, 4, 5, 100])
def test_a_top_nobody_can_leave_is_an_error_not_a_robust_model(k: int) -> None:
    goal, logits = OutOfTop(torch.tensor([0]), k), torch.randn(1, 4)
    for ask in (goal.reached, goal.gap, goal.lead):
        with pytest.raises(BadInput, match=f"No label can leave the top {k} of 4 classes; use 1 to 3"):
            ask(logits)


def test_out_of_the_top_one_is_untargeted() -> None:
    logits, y = torch.randn(50, 6), torch.arange(50) % 6
    assert torch.equal(OutOfTop(y, 1).reached(logits), Untargeted(y).reached(logits))
    assert torch.equal(OutOfTop(y, 1).gap(logits), Untargeted(y).gap(logits))


UNORDERED = [[NAN, 1, 0], [1, NAN, 0], [1, 0, NAN], [NAN, NAN, NAN], [INF, 1, 0], [1, INF, 0], [-INF, -INF, -INF]]


@pytest.mark.parametrize("row", UNORDERED)
def test_scores_without_an_order_reach_no_goal(row: list[float]) -> None:
    logits, y = logits_of([row]), torch.tensor([0])
    assert not bool(scored(logits)) and answer_of(logits).tolist() == [-1]
    three = torch.ones(1, 3) / 3
    for goal in (
        Untargeted(y), Untargeted(y, reject=2), Targeted(y, y + 1), Targeted(y, y), Toward(y, y + 1), OutOfTop(y, 1),
        OutOfTop(y, 2), Away(y, three),
    ):  # fmt: skip
        assert not bool(goal.reached(logits)), goal
        assert goal.gap(logits).tolist() == [-INF], goal


def test_a_masked_class_is_compared_as_any_other() -> None:
    # the label, the target, both, and one that is neither
    rows = logits_of([[-INF, 2, 1, 0], [3, -INF, 1, 0], [-INF, -INF, 1, 0], [1, 2, 0, -INF]])
    y, t = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    assert bool(scored(rows).all())
    assert Untargeted(y).reached(rows).tolist() == [True, False, True, True]
    assert Untargeted(y).gap(rows).tolist() == [INF, -2, INF, 1]
    assert Targeted(y, t).reached(rows).tolist() == [True, False, False, True]
    assert Targeted(y, t).gap(rows).tolist() == [1, -INF, -INF, 1]
    # label and third best other class are both masked: a tie, and no NaN
    assert OutOfTop(y, 3).gap(rows).tolist() == [INF, -INF, 0, -INF]
    assert OutOfTop(y, 2).reached(rows).tolist() == [True, False, True, False]


def test_a_target_that_is_the_label_is_left_out() -> None:
    y = torch.tensor([0, 1, 2])
    assert excluded(Targeted(y, torch.tensor([0, 2, 2]))).tolist() == [True, False, True]
    for goal in (Untargeted(y), OutOfTop(y, 1), Toward(y, y)):
        assert excluded(goal).tolist() == [False] * 3


def test_goals_are_taken_with_their_rows() -> None:
    y = torch.arange(6) % 4
    keep = torch.tensor([5, 2])
    logits = torch.randn(6, 4)
    for goal in (
        Untargeted(y, reject=3),
        Targeted(y, (y + 1) % 4),
        Toward(y, (y + 1) % 4, reject=3),
        OutOfTop(y, 2),
        Away(y, torch.randn(6, 4).softmax(1)),
    ):
        some = take(goal, keep)
        for ask in ("reached", "gap", "lead", "surprise"):
            assert torch.equal(getattr(some, ask)(logits[keep]), getattr(goal, ask)(logits)[keep])


def test_without_and_pick() -> None:
    logits, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert bool((pick(without(logits, y), y) == -INF).all())
    assert torch.equal(pick(logits, y), logits[torch.arange(4), y])
    assert bool(logits.isfinite().all()), "the logits themselves stay"
