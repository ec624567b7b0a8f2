"""Random noise of a given size: the baselines every attack must beat."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from assay.attacks.gradient import Point, budget_of
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import rows


@dataclasses.dataclass(frozen=True)
class UniformNoise:
    """One point drawn uniformly from the ball, cut by the box. Cost: 1 forward."""

    steps: ClassVar[int] = 0
    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.LAST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what the final look reports."""
        return margin

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Draw the point."""
        return Point(problem.threat.start(problem.x, draws))

    def step(self, state: Point, seen: Seen, problem: Problem, draws: Draws) -> Point:
        """Never asked for: there are no steps."""
        return state


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
    """One point drawn with a standard deviation of the budget per value, projected into ball and box.

    In L2 that is a random direction at the boundary; in Linf about a third of the values sit there. Cost: 1 forward.
    """

    steps: ClassVar[int] = 0
    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.LAST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what the final look reports."""
        return margin

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Draw the point."""
        x, threat = problem.x, problem.threat
        noise = draws.normal("start", *x.shape[1:]).to(x.dtype)
        return Point(threat.project(x + rows(budget_of(problem), x) * threat.scale * noise, x))

    def step(self, state: Point, seen: Seen, problem: Problem, draws: Draws) -> Point:
        """Never asked for: there are no steps."""
        return state
