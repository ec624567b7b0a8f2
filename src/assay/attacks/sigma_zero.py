"""Sigma-zero: the fewest values, by a smooth stand-in for their number."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.ddn import annealed
from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Climbed, Option, Steps
from assay.attacks.parts.adam import Momenta
from assay.core.draws import Draws
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import divisor, flat, rows


class Sparse(NamedTuple):
    """A point with Adam's moments, and the height `[N]` below which a change is dropped."""

    query: Tensor
    mean: Tensor
    square: Tensor
    threshold: Tensor
    t: int
    done: bool = False


@dataclasses.dataclass(frozen=True)
class SigmaZero:
    """Sigma-zero (Cina et al. 2024): Adam on max(0, -objective) + mean(d^2 / (d^2 + sigma)), small changes dropped.

    The gradient is divided by its largest value; the step falls from `step_size` to a tenth on a cosine. Changes lower
    than a threshold become zero; the threshold grows by `adapt` steps at points that reached the goal and shrinks by it
    at others. L0 (values); keeps the smallest success. Cost: `steps` gradient looks and 1 forward.
    """

    steps: Steps = 1000
    step_size: Annotated[float, Option("Length of the first step.", "pixel values")] = 1.0
    sigma: Annotated[float, Option("Smoothing of the count: changes well above its root count as one.")] = 0.001
    threshold: Annotated[float, Option("Changes below it become zero; at first.", "pixel values")] = 0.3
    adapt: Annotated[float, Option("How much the threshold grows or shrinks in a step.", "steps")] = 0.01
    objective: Climbed = margin

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    def init(self, problem: Problem, draws: Draws) -> Sparse:
        """Begin at the given start or at the image."""
        begin = start_of(problem)
        none = torch.zeros_like(begin)
        return Sparse(begin, none, none, begin.new_full((len(begin),), self.threshold), 0)

    def step(self, state: Sparse, seen: Observation, problem: Problem, draws: Draws) -> Sparse:
        """Take one step of Adam and drop what is low."""
        x, t, scale = problem.x, state.t + 1, problem.threat.scale
        # all in the unit of the budget; the slope of the smooth count, per value
        change = (state.query - x) / scale
        count = 2 * change * self.sigma / (change.square() + self.sigma).square()
        count = count / rows(problem.threat.free(x), x)
        climb = torch.where(rows(seen.reached, x), -count, gradient_of(seen) * scale - count)
        largest = flat(climb).abs().amax(1)
        climb = climb / rows(divisor(largest), x)
        momenta = Momenta(state.mean, state.square).after(climb)
        length = annealed(self.step_size, self.step_size / 10, state.t / self.steps)
        moved = problem.threat.clip(state.query + scale * length * momenta.direction(t))
        shift = self.adapt * annealed(self.step_size, self.step_size / 10, t / self.steps)
        threshold = (state.threshold + torch.where(seen.reached, shift, -shift)).clamp(0, 1)
        low = ((moved - x) / scale).abs() < rows(threshold, x)
        return Sparse(torch.where(low, x, moved), *momenta, threshold, t)
