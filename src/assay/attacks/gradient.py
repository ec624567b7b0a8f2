"""Gradient-sign and gradient-step attacks of a fixed budget: one step, iterated, with momentum, with random starts."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.options import Climbed, Decay, Option, RandomStart, Steps, StepSize, check_options
from assay.core.draws import Draws
from assay.core.objective import cross_entropy
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.tensors import divisor, flat, rows
from assay.core.threat import UNBOXED


class Point(NamedTuple):
    """A state that is nothing but the next point."""

    query: Tensor
    done: bool = False


class Moving(NamedTuple):
    """A point with the momentum it arrived with."""

    query: Tensor
    point: Tensor
    momentum: Tensor
    t: int = 0
    done: bool = False


def start_of(problem: Problem) -> Tensor:
    """Return where to begin: the problem's start, or else its `x`."""
    return problem.x if problem.start is None else problem.start


def gradient_of(seen: Observation) -> Tensor:
    """Return the gradient of a look that asked for one."""
    assert seen.grad is not None, "the attack's access is GRADIENT"
    return seen.grad


@dataclasses.dataclass(frozen=True)
class FGSM:
    """Fast gradient sign method: one step of the whole budget along the steepest direction.

    Goodfellow et al. 2015 (Linf: the sign). In L2 and L1 the same rule is the fast gradient method, FGM.
    Cost: 1 gradient look and 1 forward.
    """

    objective: Climbed = cross_entropy

    steps: ClassVar[int] = 1
    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.LAST

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Begin at the image."""
        return Point(problem.x)

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        """Go the whole budget."""
        threat = problem.threat
        move = threat.stride(gradient_of(seen), problem.x, budget_of(problem))
        return Point(threat.project(problem.x + move, problem.x))


@dataclasses.dataclass(frozen=True)
class RFGSM:
    """FGSM after a random step: `start_share` of the budget along random signs, then the rest along the gradient.

    Tramer et al. 2018 (their alpha = eps / 2). Cost: 1 gradient look and 1 forward. Raises `BadInput` for a share
    beyond 1, which would step back against the gradient.
    """

    start_share: Annotated[float, Option("Length of the random step.", "share of the budget", most=1)] = 0.5
    objective: Climbed = cross_entropy

    steps: ClassVar[int] = 1
    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.LAST

    def __post_init__(self) -> None:
        check_options(self)

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Begin a random step away from the image."""
        threat = problem.threat
        noise = draws.normal("start", *problem.x.shape[1:]).to(problem.x.dtype)
        move = threat.stride(noise, problem.x, self.start_share * budget_of(problem))
        return Point(threat.project(problem.x + move, problem.x))

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        """Go the rest of the budget."""
        threat = problem.threat
        move = threat.stride(gradient_of(seen), state.query, (1 - self.start_share) * budget_of(problem))
        return Point(threat.project(state.query + move, problem.x))


@dataclasses.dataclass(frozen=True)
class FFGSM:
    """FGSM from a uniform start with an overlong step (`step_size` budgets), projected back.

    Wong et al. 2020, "Fast is better than free" (their alpha = 1.25 eps). Cost: 1 gradient look and 1 forward.
    """

    step_size: Annotated[float, Option("Length of the step.", "budgets")] = 1.25
    objective: Climbed = cross_entropy

    steps: ClassVar[int] = 1
    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.LAST

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Begin anywhere in the ball."""
        return Point(problem.threat.start(problem.x, draws))

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        """Take the one step."""
        return Point(stride(problem, state.query, gradient_of(seen), self.step_size))


@dataclasses.dataclass(frozen=True)
class PGD:
    """Projected gradient descent: `steps` steps of `step_size` budgets, each projected into ball and box.

    Madry et al. 2018: uniform random start, step 0.01 at eps 0.3 (1/30 of the budget), 40 steps. The default step is
    2.5 / steps of the budget, their suggestion for reaching the boundary from anywhere. In L1 a step is spread
    over the best 1 % of the values that can still move (Tramer and Boneh 2019).
    Cost: `steps` gradient looks and 1 forward.
    """

    steps: Steps = 40
    step_size: StepSize = None
    random_start: RandomStart = True
    objective: Climbed = cross_entropy
    keeps: Keeps = Keeps.FIRST

    access: ClassVar[Access] = Access.GRADIENT

    @property
    def step_length(self) -> float:
        """The length of a step, in budgets."""
        return 2.5 / self.steps if self.step_size is None else self.step_size

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Begin at the given start, at a random point, or at the image."""
        if problem.start is not None:
            return Point(problem.start)
        return Point(problem.threat.start(problem.x, draws) if self.random_start else problem.x)

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        """Take one projected step."""
        size = self.step_length
        return Point(stride(problem, state.query, gradient_of(seen), size))


@dataclasses.dataclass(frozen=True)
class BIM:
    """Basic iterative method: FGSM in small steps from the image, without a random start.

    Kurakin et al. 2017. The default step is 1 / steps of the budget, so that `steps` steps reach the boundary.
    Cost: `steps` gradient looks and 1 forward.
    """

    steps: Steps = 10
    step_size: StepSize = None
    objective: Climbed = cross_entropy
    keeps: Keeps = Keeps.LAST

    access: ClassVar[Access] = Access.GRADIENT

    @property
    def step_length(self) -> float:
        """The length of a step, in budgets."""
        return 1 / self.steps if self.step_size is None else self.step_size

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Begin at the given start or at the image."""
        return Point(start_of(problem))

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        """Take one projected step."""
        size = self.step_length
        return Point(stride(problem, state.query, gradient_of(seen), size))


@dataclasses.dataclass(frozen=True)
class MIFGSM:
    """Momentum iterative FGSM: steps along a decaying sum of gradients, each divided by its mean absolute value.

    Dong et al. 2018 (decay 1, step 1 / steps of the budget). With `lookahead` the gradient is taken where the
    momentum points (NI-FGSM, Lin et al. 2020). Cost: `steps` gradient looks and 1 forward.
    """

    steps: Steps = 10
    step_size: StepSize = None
    decay: Decay = 1.0
    lookahead: Annotated[bool, Option("Whether gradients are taken a step of the momentum ahead.")] = False
    objective: Climbed = cross_entropy
    keeps: Keeps = Keeps.LAST

    access: ClassVar[Access] = Access.GRADIENT

    @property
    def step_length(self) -> float:
        """The length of a step, in budgets."""
        return 1 / self.steps if self.step_size is None else self.step_size

    def init(self, problem: Problem, draws: Draws) -> Moving:
        """Begin at the given start or at the image, at rest."""
        start = start_of(problem)
        return Moving(start, start, torch.zeros_like(problem.x))

    def step(self, state: Moving, seen: Observation, problem: Problem, draws: Draws) -> Moving:
        """Add the gradient to the momentum and take one projected step along it."""
        size = self.step_length
        momentum = self.decay * state.momentum + of_mean_one(gradient_of(seen), problem)
        point = stride(problem, state.point, momentum, size)
        t = state.t + 1
        # the final look judges the point itself, not where its momentum would have carried it
        ahead = self.lookahead and t < self.steps
        query = _ahead(problem, point, momentum, self.decay * size) if ahead else point
        return Moving(query, point, momentum, t)


def _ahead(problem: Problem, point: Tensor, momentum: Tensor, budgets: float) -> Tensor:
    # momentum is a sum of gradients of mean absolute value 1: give those the mean length of a step of this threat. As
    # published the gradient may be taken outside budget and box, where no point is judged a success
    free = dataclasses.replace(problem.threat, box=UNBOXED)
    step = free.stride(momentum, point, budgets * budget_of(problem))
    mean = flat((step / free.scale).abs()).mean(1)
    return point + rows(mean, point) * momentum * free.scale * free.scale


def of_mean_one(grad: Tensor, problem: Problem) -> Tensor:
    """Return gradients divided by their mean absolute value, as momentum adds them up; 0 stays 0."""
    # in the unit of the budget, so that a budget per channel weighs the steps as it would on scaled images
    mean = flat((grad * problem.threat.scale).abs()).mean(1)
    return grad / rows(divisor(mean), grad)


def stride(problem: Problem, point: Tensor, direction: Tensor, budgets: float) -> Tensor:
    """Return the point a step of so many `budgets` along `direction` leads to, inside budget and box."""
    threat = problem.threat
    return threat.project(point + threat.stride(direction, point, budgets * budget_of(problem)), problem.x)
