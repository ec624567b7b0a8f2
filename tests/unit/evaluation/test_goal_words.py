from __future__ import annotations

import pytest
import torch

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Goal, OutOfTop, Targeted, Untargeted, excluded
from assay.evaluation.study.goal_words import allowed_rank, check_goal
from assay.evaluation.study.goals import make_goal

Y = torch.tensor([0, 1, 2, 3])
LOGITS = torch.tensor([[9.0, 1, 2, 3], [0, 9, 1, 2], [3, 0, -9, 1], [1, 2, 3, 0]])
DRAWS = Draws.of(["a", "b", "c", "d"], 0)


def made(words: str, classes: tuple[str, ...] | None = None) -> Goal:
    return make_goal(check_goal(words), Y, LOGITS, DRAWS, classes=classes)


def targets(words: str, classes: tuple[str, ...] | None = None) -> list[int]:
    goal = made(words, classes)
    assert isinstance(goal, Targeted) and torch.equal(goal.y, Y)
    return list(goal.t.tolist())


def test_untargeted_and_out_of_top() -> None:
    assert isinstance(made("untargeted"), Untargeted)
    goal = made("out-of-top  2")
    assert isinstance(goal, OutOfTop) and goal.k == 2
    assert [allowed_rank("untargeted"), allowed_rank("targeted 3"), allowed_rank("out-of-top 5")] == [1, 1, 5]


def test_targets_are_what_the_words_say() -> None:
    assert targets("targeted next") == [1, 2, 3, 0]
    # one class for all: that of the samples that carry it too, which the goal leaves out
    assert targets("targeted 2") == [2] * 4
    assert targets("targeted cat", ("dog", "cat", "cow", "hen")) == [1] * 4
    assert excluded(made("targeted cat", ("dog", "cat", "cow", "hen"))).tolist() == [False, True, False, False]
    # the lowest logit that is not the label's own: in rows 2 and 3 the label has the lowest
    assert targets("targeted least-likely") == [1, 0, 1, 0]


def test_random_targets_are_drawn_by_sample() -> None:
    y = torch.zeros(300, dtype=torch.int64) + 2
    draws = Draws.of([str(i) for i in range(300)], 1)
    goal = make_goal("targeted random", y, torch.zeros(300, 4), draws)
    assert isinstance(goal, Targeted) and set(goal.t.tolist()) == {0, 1, 3}
    keep = torch.arange(100, 120)
    some = make_goal("targeted random", y[keep], torch.zeros(20, 4), draws.take(keep))
    assert isinstance(some, Targeted) and torch.equal(some.t, goal.t[keep])


@pytest.mark.parametrize("words", ["", "targeted", "out-of-top", "out-of-top 0", "out-of-top x", "untargeted 3", "5"])
def test_other_words_are_no_goal(words: str) -> None:
    with pytest.raises(BadInput, match="is not a goal"):
        check_goal(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("targeted 4", "target class 4 does not exist: the model has 4 classes, 0 to 3"),
        ("targeted kat", "Unknown target class 'kat'. Did you mean 'cat'?"),
        ("out-of-top 4", "cannot be reached: the model has 4 classes. Use 3 at most."),
    ],
)
def test_goals_that_the_model_does_not_have(words: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        made(words, ("dog", "cat", "cow", "hen"))
    assert said in str(caught.value)
