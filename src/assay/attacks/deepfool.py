"""DeepFool: step by step onto the nearest boundary of the model taken as linear."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.linearised import nearest_plane, toward
from assay.core.draws import Draws
from assay.core.objective import Objective, differences
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import rows


class Fooling(NamedTuple):
    """The next point, and the rows that are there."""

    query: Tensor
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class DeepFool:
    """DeepFool (Moosavi-Dezfooli et al. 2016): onto the nearest linearised boundary, and `overshoot` of the way beyond.

    `x <- x + (1 + overshoot) r`, where r is the smallest change, inside the box, that brings one of the `classes`
    highest other classes level with the label's on the model taken as linear at x. It ends at the first success.
    Access: gradient. Cost: per step 1 forward and `classes` backwards (1 under a goal other than `Untargeted`), until
    the goal is reached, and that look.
    """

    steps: int = 50
    overshoot: float = 0.02
    classes: int = 9

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    @property
    def objective(self) -> Objective:
        """The boundaries that may be crossed."""
        return differences(self.classes)

    def init(self, problem: Problem, draws: Draws) -> Fooling:
        """Begin at the given start or at the image."""
        return Fooling(problem.x if problem.start is None else problem.start)

    def step(self, state: Fooling, seen: Seen, problem: Problem, draws: Draws) -> Fooling:
        """Cross the nearest boundary; stay where the goal is reached."""
        threat, x = problem.threat, problem.x
        at = threat.snap(state.query, x)
        plane = nearest_plane(seen, at, threat)
        onto = threat.to_plane(at, plane.normal, plane.offset)
        new = threat.clip(toward(at, onto, 1 + self.overshoot))
        return Fooling(torch.where(rows(seen.reached, x), at, new), seen.reached)
