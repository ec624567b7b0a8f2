"""DeepFool: step by step onto the nearest linearised boundary."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

from torch import Tensor

from assay.attacks.fab import nearest_class
from assay.core.draws import Draws
from assay.core.objective import Objective, differences
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import flat


class Step(NamedTuple):
    """The next point; a row is done once the last one reached the goal."""

    query: Tensor
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class DeepFool:
    """DeepFool (Moosavi-Dezfooli et al. 2016): project on the nearest linearised boundary, until it is crossed.

    x' = x + (1 + overshoot) |f| / ||w||_* d, with f and w the difference of logits and its gradient for the class
    nearest in the dual norm among the `classes` likeliest others, d the steepest direction of unit size. What the box
    blocks of a step goes to other values. L2, Linf and L1; a sample stops at its first success.
    Cost: `classes` backwards and 1 forward per step, few steps.
    """

    steps: int = 50
    overshoot: float = 0.02
    classes: int = 9

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    @property
    def objective(self) -> Objective:
        """The differences of logits."""
        return differences(self.classes)

    def init(self, problem: Problem, draws: Draws) -> Step:
        """Begin at the given start or at the image."""
        return Step(problem.x if problem.start is None else problem.start)

    def step(self, state: Step, seen: Seen, problem: Problem, draws: Draws) -> Step:
        """Cross the nearest plane."""
        lead, grad = nearest_class(seen, problem)
        offset = flat(grad * state.query).sum(1) - lead
        crossed = problem.threat.to_plane(state.query, grad, offset)
        moved = problem.threat.clip(state.query + (1 + self.overshoot) * (crossed - state.query))
        return Step(moved, seen.reached)
