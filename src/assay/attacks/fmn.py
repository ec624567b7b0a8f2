"""FMN: the fast minimum-norm attack, in every norm."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.ddn import annealed
from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Climbed, Option, Steps
from assay.core.draws import Draws
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import divisor, rows


class Ball(NamedTuple):
    """A point, the radius it is projected to, and the size of the smallest success so far (infinite before one)."""

    query: Tensor
    radius: Tensor
    smallest: Tensor
    t: int
    done: bool = False


@dataclasses.dataclass(frozen=True)
class FMN:
    """Fast minimum-norm attack (Pintor et al. 2021): gradient steps projected into a ball whose radius adapts.

    Before the first success the radius is where the linearised boundary lies, |d| + |f| / ||grad||_*, or grows. After
    one it shrinks by gamma at points that reached the goal, never above the smallest success, and grows at others.
    Points that miss the goal are moved out towards the radius, as DDN does (in L0 their changes grow as much): in the
    paper they are not, and a box that blocks most of a step can hold them far inside. With few steps the radius has no
    time to come back from there.
    Steps along the L2-normalised gradient fall from `step_size` (1, in Linf 3) to a hundredth of it, gamma from `gamma`
    to 0.001, both on a cosine. Linf, L2, L1 and L0; keeps the smallest success.
    Cost: `steps` gradient looks and 1 forward.
    """

    steps: Steps = 100
    step_size: Annotated[float | None, Option("The first step; without it 1, in Linf 3.", "L2 distance")] = None
    gamma: Annotated[float, Option("How much the radius changes in a step, at first.", "share of the radius")] = 0.05
    objective: Climbed = margin

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    def init(self, problem: Problem, draws: Draws) -> Ball:
        """Begin at the given start or at the image."""
        begin = start_of(problem)
        far = begin.new_full((len(begin),), torch.inf)
        return Ball(begin, far, far, 0)

    def step(self, state: Ball, seen: Observation, problem: Problem, draws: Draws) -> Ball:
        """Adapt the radius, step along the gradient, and project."""
        x, threat, grad = problem.x, problem.threat, gradient_of(seen)
        share = state.t / self.steps
        gamma = annealed(self.gamma, 0.001, share)
        size = threat.size(state.query, x)
        smallest = torch.where(seen.reached, torch.minimum(state.smallest, size), state.smallest)
        inside = torch.minimum(threat.norm.scaled(state.radius, 1 - gamma), smallest)
        wider = threat.norm.scaled(state.radius, 1 + gamma)
        boundary = size + threat.size_needed(state.query, grad, seen.loss.abs())
        # the linear estimate ignores the box: without growth the radius could stand still
        unknown = torch.where(state.radius.isinf(), boundary, torch.maximum(boundary, wider))
        outside = torch.where(smallest.isinf(), unknown, wider)
        radius = torch.where(seen.reached, inside, outside)
        first = threat.norm.first_step if self.step_size is None else self.step_size
        moved = state.query + annealed(first, first / 100, share) * threat.unit(grad)
        # where the box blocks most of a step the point would stay far inside a ball that grows, and turn in a circle
        stretch = (radius / divisor(threat.size(moved, x))).clamp_min(1)
        stretched = torch.where(seen.reached | radius.isinf(), 1, stretch)
        moved = x + (moved - x) * rows(stretched, x)
        return Ball(threat.at(radius).project(moved, x), radius, smallest, state.t + 1)
