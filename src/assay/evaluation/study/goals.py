"""What the words of a goal mean for a chunk of samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput, did_you_mean
from assay.core.goal import Goal, OutOfTop, Targeted, Untargeted, without
from assay.data.labels import find_class
from assay.evaluation.study.goal_words import STRICT, TARGETS, per_image, spoken


def make_goal(
    goal: str,
    y: Tensor,
    logits: Tensor,
    draws: Draws,
    *,
    classes: Sequence[str] | None = None,
    targets: Tensor | None = None,
    reject: int | None = None,
) -> Goal:
    """Return the goal for labels `y` (`[N]`), given the clean `logits` (`[N, K]`), without that of a refusal.

    Targets that the words choose for each sample are never its label; one class for all is also that of the samples
    that carry it, which the goal leaves out. `targets` (`[N]`) are those of a goal that has one for each sample.
    `reject` is the index of the logit that means "refused", where there is one. Raises `BadInput` for a class the model
    does not have, and for goals that need a model that refuses, or one that does not.
    """
    kind, _, rest = goal.partition(" ")
    if goal == STRICT and reject is None:
        raise BadInput(
            "The goal 'untargeted strict' counts refusals, and this model refuses nothing. Use 'untargeted'."
        )
    if kind == "untargeted":
        return Untargeted(y, None if goal == STRICT else reject)
    if kind == "out-of-top" and reject is not None:
        raise BadInput(f"The goal {goal!r} ranks classes, and this model may refuse instead. Use 'untargeted'.")
    k = logits.shape[1]
    if per_image(goal):
        assert targets is not None, "the data hold them"
        if not bool(((targets >= 0) & (targets < k)).all()):
            raise BadInput(
                f"The goal {spoken(goal)!r} has the target {int(targets.max())}; the model has {k} classes, 0 to "
                f"{k - 1}. Count classes from 0."
            )
        return Targeted(y, targets, reject)
    if kind == "out-of-top":
        if int(rest) >= k:
            raise BadInput(f"The goal {goal!r} cannot be reached: the model has {k} classes. Use {k - 1} at most.")
        return OutOfTop(y, int(rest))
    if rest == "least-likely":
        # the label itself is out of the race: it would be a target already reached by doing nothing
        return Targeted(y, (-without(-logits, y)).argmin(1), reject)
    if rest == "next":
        return Targeted(y, (y + 1) % k, reject)
    if rest == "random":
        step = 1 + (draws.fold("target").uniform("class") * (k - 1)).long().clamp_max(k - 2)
        return Targeted(y, (y + step) % k, reject)
    return Targeted(y, torch.full_like(y, class_index(rest, k, classes)), reject)


def class_index(name: str, k: int, classes: Sequence[str] | None) -> int:
    """Return the index of a class given by its number or its name."""
    if not name.isdecimal() and name not in (classes or ()):
        near = did_you_mean(name, TARGETS)
        if near:
            raise BadInput(f"Unknown target class {name!r}.{near} Give its number, 0 to {k - 1}, or its name.")
    return find_class(name, k, classes)[0]
