"""Goals of several labels: what is broken, by how much, and what attacks climb."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.core.errors import BadInput
from assay.core.goal import excluded
from assay.core.multi_label import MultiLabel, MultiLabelTargeted
from assay.core.objective import OBJECTIVES, Tempered, differences, dlr, margin
from assay.core.tensors import take

NAN, INF = torch.nan, torch.inf
Y = torch.tensor([[1, 0, 1, 0]])


def one(*scores: float) -> Tensor:
    return torch.tensor([scores])


@pytest.mark.parametrize(
    ("scores", "reached"),
    [
        # any, hide, add, two at once, all at once
        ((1.0, -1.0, 1.0, -1.0), (False, False, False, False, False)),
        ((-1.0, -1.0, 1.0, -1.0), (True, True, False, False, False)),
        ((1.0, 1.0, 1.0, -1.0), (True, False, True, False, False)),
        ((-1.0, 1.0, 1.0, -1.0), (True, True, True, True, False)),
        ((-1.0, 1.0, -1.0, 1.0), (True, True, True, True, True)),
        # a score at the threshold means absent
        ((0.0, -1.0, 1.0, 0.0), (True, True, False, False, False)),
        ((-INF, -1.0, 1.0, -1.0), (True, True, False, False, False)),
        # no answer is no success
        ((NAN, 1.0, -1.0, 1.0), (False,) * 5),
        ((INF, 1.0, -1.0, 1.0), (False,) * 5),
    ],
)
def test_what_is_broken(scores: tuple[float, ...], reached: tuple[bool, ...]) -> None:
    goals = (
        MultiLabel(Y), MultiLabel(Y, "hide"), MultiLabel(Y, "add"), MultiLabel(Y, count=2), MultiLabel(Y, count="all"),
    )  # fmt: skip
    assert tuple(bool(goal.reached(one(*scores))) for goal in goals) == reached
    assert not any(bool(goal.gap(one(*scores)).isnan()) for goal in goals)


def test_gaps_agree_with_the_verdict() -> None:
    """On every combination of four scores with ties, all kinds of goals, and thresholds per label."""
    scores = torch.tensor(list(itertools.product((-1.0, 0.0, 0.5, 2.0), repeat=4)))
    y = torch.tensor([1, 0, 1, 1]).expand(len(scores), 4)
    for threshold in (0.0, 0.5, torch.tensor([0.5, -1.0, 0.0, 2.0])):
        wrong = (scores > threshold) != y.bool()
        edge = (scores == threshold).any(1)
        for broken, count in itertools.product(("any", "hide", "add"), (1, 2, "all")):
            goal = MultiLabel(y, broken, count, threshold)
            among = {"any": wrong, "hide": wrong & y.bool(), "add": wrong & ~y.bool()}[broken]
            need = {"any": 4, "hide": 3, "add": 1}[broken] if count == "all" else count
            expected = among.sum(1) >= need
            assert torch.equal(goal.reached(scores), expected)
            assert torch.equal(goal.gap(scores) > 0, expected & (goal.gap(scores) != 0))
            assert torch.equal((goal.gap(scores) > 0)[~edge], expected[~edge])
        t = torch.tensor([0, -1, 1, 0]).expand(len(scores), 4)
        hit = ((scores > threshold) == (t == 1)) | (t == -1)
        aimed = MultiLabelTargeted(y, t, threshold)
        assert torch.equal(aimed.reached(scores), hit.all(1))
        assert torch.equal((aimed.gap(scores) > 0)[~edge], hit.all(1)[~edge])


def test_the_gap_is_the_distance_to_the_threshold() -> None:
    scores = one(3.0, -2.0, 1.0, -0.5)
    assert float(MultiLabel(Y).gap(scores)) == -0.5
    assert float(MultiLabel(Y, "hide").gap(scores)) == -1
    assert float(MultiLabel(Y, count=2).gap(scores)) == -1
    assert float(MultiLabel(Y, count="all").gap(scores)) == -3
    assert float(MultiLabel(Y, "hide", threshold=0.75).gap(scores)) == -0.25
    assert float(MultiLabelTargeted(Y, torch.tensor([[-1, 1, 1, 0]])).gap(scores)) == -2


def test_images_without_such_labels_are_left_out() -> None:
    y = torch.tensor([[0, 0], [1, 0], [1, 1]])
    assert excluded(MultiLabel(y)).tolist() == [False, False, False]
    assert excluded(MultiLabel(y, "hide")).tolist() == [True, False, False]
    assert excluded(MultiLabel(y, "hide", 2)).tolist() == [True, True, False]
    assert excluded(MultiLabel(y, "hide", "all")).tolist() == [True, False, False]
    assert excluded(MultiLabel(y, "add")).tolist() == [False, False, True]
    assert excluded(MultiLabelTargeted(y, torch.tensor([[0, -1], [0, -1], [1, 1]]))).tolist() == [True, False, True]
    scores = torch.tensor([[-1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0]])
    assert MultiLabel(y, "hide", 2).reached(scores).tolist() == [False, False, True]


def test_the_cross_entropy_is_that_of_the_decisions_that_must_change() -> None:
    scores = one(3.0, -2.0, 1.0, -0.5).requires_grad_()
    each = F.binary_cross_entropy_with_logits(scores, Y.float(), reduction="none")[0]
    torch.testing.assert_close(MultiLabel(Y, count="all").surprise(scores)[0], each.sum())
    torch.testing.assert_close(MultiLabel(Y).surprise(scores)[0], each[3])
    torch.testing.assert_close(MultiLabel(Y, "hide", "all").surprise(scores)[0], each[0] + each[2])
    (grad,) = torch.autograd.grad(MultiLabel(Y, "hide").surprise(scores).sum(), scores)
    assert grad.isfinite().all() and grad.nonzero().tolist() == [[0, 2]] and float(grad[0, 2]) < 0
    t = torch.tensor([[0, -1, 1, 0]])
    wanted = -F.binary_cross_entropy_with_logits(scores[0, [0, 2, 3]], torch.tensor([0.0, 1.0, 0.0]), reduction="sum")
    torch.testing.assert_close(MultiLabelTargeted(Y, t).surprise(scores)[0], wanted)


@pytest.mark.parametrize("objective", [*OBJECTIVES.values(), Tempered(10.0), differences(3)])
def test_objectives_lead_to_the_goal(objective) -> None:
    """Climbing any of them on the scores themselves reaches every goal, also with a threshold that is not 0."""
    y = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1]])
    start = torch.tensor([[1.5, -0.4, 0.9, -0.7], [-0.2, 1.4, 0.6, 0.9]])
    goals = [MultiLabel(y, broken, threshold=0.1) for broken in ("any", "hide", "add")]
    for goal in (*goals, MultiLabelTargeted(y, 1 - y, 0.1)):
        scores = start.clone()
        for _ in range(200):
            scores.requires_grad_()
            value = objective(scores, goal)
            value = value[:, 0] if value.ndim == 2 else value
            (grad,) = torch.autograd.grad(value.sum(), scores)
            assert grad.isfinite().all()
            scores = (scores + 0.05 * grad.sign()).detach()
        assert goal.reached(scores).all(), goal


def test_scores_without_competition_have_no_ratio() -> None:
    scores = one(3.0, -2.0, 1.0, -0.5)
    assert torch.equal(dlr(scores, MultiLabel(Y)), margin(scores, MultiLabel(Y)))


def test_boundaries_are_those_that_may_be_crossed() -> None:
    scores = one(3.0, -2.0, 1.0, -0.5)
    assert differences(3)(scores, MultiLabel(Y)).tolist() == [[-0.5, -1.0, -2.0]]
    # an image with two labels to hide has no third boundary
    assert differences(3)(scores, MultiLabel(Y, "hide")).tolist() == [[-1.0, -3.0, -1.0]]
    assert differences(3)(scores, MultiLabel(Y, count=2)).tolist() == [[-1.0]]
    each = MultiLabel(Y).toward_each(scores, 3)
    assert [float(goal.lead(scores)) for goal in each] == [-0.5, -1.0, -2.0]
    assert all(float(goal.gap(scores)) == -0.5 for goal in each)


def test_rows_are_taken_together() -> None:
    y = torch.tensor([[1, 0], [0, 1], [1, 1]])
    at = torch.tensor([2, 0])
    goal = take(MultiLabel(y, "hide", "all", torch.tensor([0.5, 1.0])), at)
    assert goal.y.tolist() == [[True, True], [True, False]] and goal.threshold.tolist() == [0.5, 1.0]
    assert take(MultiLabelTargeted(y, 1 - y), at).t.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MultiLabel(torch.tensor([1, 0])), r"\[2\] of torch.int64, expected multi-hot"),
        (lambda: MultiLabel(torch.ones(3, 1)), r"one decision per image. Give class numbers, y\[:, 0\].long\(\)"),
        (lambda: MultiLabel(torch.full((2, 3), 0.3)), "expected 0 and 1 alone"),
        (lambda: MultiLabel(Y, "hidden"), "expected one of any, hide, add"),
        (lambda: MultiLabel(Y, count=0), "count is 0, expected 'all', or how many of the 4 labels"),
        (lambda: MultiLabel(Y, count=5), "count is 5"),
        (lambda: MultiLabel(Y, count="most"), "count is 'most'"),
        (lambda: MultiLabel(Y, count=True), "count is True"),
        (lambda: MultiLabel(Y, threshold=torch.zeros(3)), "one for each of the 4 labels"),
        (lambda: MultiLabel(Y, threshold=NAN), "finite score"),
        (lambda: MultiLabelTargeted(Y, torch.tensor([1])), r"expected \[1, 4\] as the labels"),
        (lambda: MultiLabelTargeted(Y, 2 * Y), "expected .* -1 where it does not matter"),
        (lambda: MultiLabelTargeted(Y, -torch.ones_like(Y)), "image 0 is -1 for every label"),
        (lambda: MultiLabel([[1, 0]]), "a list, expected multi-hot"),
    ],
)
def test_what_is_no_goal_is_refused(make, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        make()
