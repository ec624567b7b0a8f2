"""Goals as a study writes them, and what they mean for a chunk of samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput, did_you_mean
from assay.core.goal import Goal, OutOfTop, Targeted, Untargeted, without
from assay.data.labels import find_class

TARGETS = ("least-likely", "next", "random")
COLUMN = "targeted column"
"""The goal whose targets the data themselves hold, one for each image."""

STRICT = "untargeted strict"
"""For models that may refuse: any answer but the label counts, a refusal too."""

_FILE = "targeted file "
_PLANNED = re.compile(r"#[0-9a-f]{16}$")
_FORMS = (
    "Write 'untargeted', 'untargeted strict' (a refusal counts too), 'targeted least-likely', 'targeted next', "
    "'targeted random', 'targeted CLASS', 'targeted file TARGETS.csv', 'targeted column' or 'out-of-top K'."
)


def check_goal(words: Any) -> str:
    """Return a goal in its canonical form; raises `BadInput` for words that are none."""
    text = " ".join(str(words).split())
    kind, _, rest = text.partition(" ")
    if text == STRICT:
        return text
    if text.startswith(_FILE):
        # spaces inside a path are its own
        return _FILE + str(words).strip().removeprefix("targeted").lstrip().removeprefix("file").lstrip()
    if kind == "untargeted" and not rest:
        return text
    if kind == "targeted" and rest:
        return text
    if kind == "out-of-top" and re.fullmatch(r"[1-9]\d*", rest):
        return text
    raise BadInput(f"{text!r} is not a goal.{did_you_mean(kind, ('untargeted', 'targeted', 'out-of-top'))} {_FORMS}")


def target_file(goal: str) -> str | None:
    """Return the path of the file that a goal takes its targets from; None for other goals."""
    return spoken(goal).removeprefix(_FILE) if goal.startswith(_FILE) else None


def per_image(goal: str) -> bool:
    """Whether a goal, as a cell holds it, has a target of its own for each image: it carries their digest."""
    return goal.startswith((_FILE, f"{COLUMN}#")) and _PLANNED.search(goal) is not None


def planned(goal: str, digest: str) -> str:
    """Return a goal with a target per image as a cell holds it: with the digest (16 hexadecimal digits) of those."""
    return f"{spoken(goal)}#{digest}"


def spoken(goal: str) -> str:
    """Return a goal, as a cell holds it, as people read it: without the digest of its targets."""
    return goal.rpartition("#")[0] if per_image(goal) else goal


def telling(goal: str) -> str:
    """Return what of a goal, as a cell holds it, changes numbers: of targets their digest, not where they come from."""
    return f"targeted each {goal.rpartition('#')[2]}" if per_image(goal) else goal


def fixed_class(goal: str) -> str | None:
    """Return the name or number of the one class that a goal aims at for all images; None for other goals."""
    kind, _, rest = goal.partition(" ")
    return rest if kind == "targeted" and rest not in TARGETS and not per_image(goal) else None


def allowed_rank(goal: str) -> int:
    """Return the worst rank of the true label that still counts as right: K for `out-of-top K`, else 1."""
    kind, _, rest = goal.partition(" ")
    return int(rest) if kind == "out-of-top" else 1


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
