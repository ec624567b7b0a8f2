"""Goals as a study writes them, and what their words say without any image."""

from __future__ import annotations

import re
from typing import Any

from assay.core.errors import BadInput, did_you_mean

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
