"""Our own side of the board: an attack of the table, by its name."""

from __future__ import annotations

import dataclasses
import math

from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.case import Case
from assay.core.compose import run
from assay.core.norms import NORMS
from assay.core.search import Keeps, SearchResult
from assay.core.threat import Threat
from benchmarks.strength.board import BUDGET, DISTANCE, MINIMUM, QUERIES, Task
from benchmarks.strength.counted import Counted

KEEPS = {BUDGET: Keeps.FIRST, QUERIES: Keeps.FIRST, MINIMUM: Keeps.SMALLEST, DISTANCE: Keeps.SMALLEST}


class NotYet(Exception):
    """The attack is not in the table."""


@dataclasses.dataclass(frozen=True)
class Own:
    """What came of it, and whether the rows that the results count are those that went through the model."""

    x: Tensor
    forwards: int
    backwards: int


def attacked(model: Counted, x: Tensor, y: Tensor, task: Task, first: int = 0) -> Own:
    """Attack images, of which `first` is the position of the first one; raises `NotYet` for an unknown attack.

    The point that counts is the first success under a budget, the smallest one where distances count, and the last
    one where another network is to judge.
    """
    contender = task.contender
    if contender.call not in ATTACKS:
        raise NotYet(f"{contender.call} is not in the table yet")
    method = build(contender.call, **contender.options)
    threat = Threat(NORMS[task.norm], math.inf if task.eps is None else task.eps)
    settings = {"seed": contender.seed, "ids": [str(first + i) for i in range(len(x))]}
    case = Case.of(method, model, x, y, threat, settings)
    with case.classifier.held():
        found: SearchResult = run(method, case.problem, case.draws, keeps=KEEPS.get(task.kind, Keeps.LAST))
    return Own(found.x, int(found.forwards.sum()), int(found.backwards.sum()))
