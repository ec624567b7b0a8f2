"""Baselines every attack must beat: random noise, blur, fading, salt and pepper."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import Point
from assay.attacks.options import Option
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.tensors import rows


@dataclasses.dataclass(frozen=True)
class NoAttack:
    """The image itself: for data that are looked at and not attacked. Cost: nothing beyond the look at the image."""

    steps: ClassVar[int] = 0
    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.LAST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what the look reports."""
        return margin

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Return the image."""
        return Point(problem.x)

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        """Never asked for: there are no steps."""
        return state


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

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
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

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        """Never asked for: there are no steps."""
        return state


Levels = Annotated[int, Option("Levels of the corruption.", "forward passes")]


class Level(NamedTuple):
    """The image at corruption level `t`; `luck` are the random numbers that every level uses."""

    query: Tensor
    luck: Tensor | None
    t: int
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class GaussianBlur:
    """Blur by a Gaussian whose standard deviation grows evenly to `width` of the image's longer side.

    A sample stops at its first success, which counts inside the budget alone. Cost: at most `steps` + 1 forwards.
    """

    steps: Levels = 20
    width: Annotated[float, Option("Standard deviation of the last blur.", "share of the longer side")] = 0.25

    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what a look reports."""
        return margin

    def init(self, problem: Problem, draws: Draws) -> Level:
        """Begin with the image itself."""
        return Level(problem.x, None, 0)

    def step(self, state: Level, seen: Observation, problem: Problem, draws: Draws) -> Level:
        """Blur the image a little more."""
        t, longer = state.t + 1, max(problem.x.shape[-2:])
        blurred = _blurred(problem.x, self.width * longer * t / self.steps)
        # rounding is no blur
        same = (blurred - problem.x).abs() < 1e-6
        return _level(problem, problem.threat.clip(torch.where(same, problem.x, blurred)), t, seen)


@dataclasses.dataclass(frozen=True)
class ContrastReduction:
    """Fade the image towards mid-grey, evenly in `steps` levels; the last one is grey alone.

    A sample stops at its first success, which counts inside the budget alone. Cost: at most `steps` + 1 forwards.
    """

    steps: Levels = 20

    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what a look reports."""
        return margin

    def init(self, problem: Problem, draws: Draws) -> Level:
        """Begin with the image itself."""
        return Level(problem.x, None, 0)

    def step(self, state: Level, seen: Observation, problem: Problem, draws: Draws) -> Level:
        """Fade the image a little more."""
        t, x = state.t + 1, problem.x
        dark, bright = _ends(problem)
        grey = (dark + bright) / 2
        return _level(problem, x + t / self.steps * (grey - x), t, seen)


@dataclasses.dataclass(frozen=True)
class SaltAndPepper:
    """Set a growing share of the values, drawn once, to black or white; the last level sets all.

    A sample stops at its first success, which counts inside the budget alone. Cost: at most `steps` + 1 forwards.
    """

    steps: Levels = 50

    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what a look reports."""
        return margin

    def init(self, problem: Problem, draws: Draws) -> Level:
        """Begin with the image itself, and draw when each value's turn comes, and what it becomes."""
        return Level(problem.x, draws.uniform("salt", *problem.x.shape[1:]), 0)

    def step(self, state: Level, seen: Observation, problem: Problem, draws: Draws) -> Level:
        """Set some more values."""
        assert state.luck is not None
        t, x = state.t + 1, problem.x
        half, (dark, bright) = t / self.steps / 2, _ends(problem)
        noisy = torch.where(state.luck < half, dark, torch.where(state.luck >= 1 - half, bright, x))
        return _level(problem, noisy, t, seen)._replace(luck=state.luck)


def _level(problem: Problem, corrupted: Tensor, t: int, seen: Observation) -> Level:
    # in a mask the corrupted image shows through, as through a window
    return Level(problem.threat.inside(corrupted, problem.x), None, t, seen.reached)


def _ends(problem: Problem) -> tuple[Tensor, Tensor]:
    # black and white; without a box, the extremes of each of the image's channels
    low, high = problem.threat.box
    x = problem.x
    if math.isinf(low) or math.isinf(high):
        return x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return x.new_full((1, 1, 1, 1), low), x.new_full((1, 1, 1, 1), high)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    # separable, with the edge repeated; three standard deviations to each side
    for dim in (-2, -1):
        reach = math.ceil(3 * sigma)
        at = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-(at**2) / (2 * sigma**2))
        kernel = kernel / kernel.sum()
        side = x.shape[dim]
        # the weight that each output takes from each input, ends collecting what lies beyond them
        places = (torch.arange(side, device=x.device)[:, None] + at.long()).clamp(0, side - 1)
        weights = x.new_zeros(side, side).scatter_add(1, places, kernel.expand(side, -1).contiguous())
        x = (x.transpose(dim, -1) @ weights.T).transpose(dim, -1)
    return x
