"""Auto-PGD: projected gradient ascent that finds its own step size."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of
from assay.attacks.options import Climbed, Option, Steps, Targets, check_options
from assay.core.compose import ByNorm, EachTarget
from assay.core.draws import Draws
from assay.core.objective import Objective, cross_entropy, dlr_targeted
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.tensors import flat, rows

_MOMENTUM = 0.75
_FEWER = 1.5
_SHARE = 0.2

Rho = Annotated[
    float, Option("The step is halved where fewer of the last steps than this climbed.", "share of the steps", most=1)
]


class Best(NamedTuple):
    """The highest place a climber has been to, with the gradient and the objective there."""

    point: Tensor
    grad: Tensor
    loss: Tensor


def _nowhere(x: Tensor) -> Best:
    return Best(x, torch.zeros_like(x), x.new_full((len(x),), -torch.inf))


def _higher(best: Best, at: Tensor, seen: Observation) -> Best:
    risen = seen.loss > best.loss
    up = rows(risen, at)
    point, grad = torch.where(up, at, best.point), torch.where(up, gradient_of(seen), best.grad)
    return Best(point, grad, torch.where(risen, seen.loss, best.loss))


class Climb(NamedTuple):
    """Where a climber stands, where it came from, and its step, in the threat's unit.

    `last` is the objective at the latest place and `ups` how often it has risen since the last checkpoint; `checked` is
    the best objective there, and `halved` whether the step was halved there. `t` looks have been made.
    """

    query: Tensor
    previous: Tensor
    best: Best
    size: Tensor
    last: Tensor
    ups: Tensor
    checked: Tensor
    halved: Tensor
    t: int = 0
    done: bool = False


@functools.cache
def checkpoints(steps: int) -> tuple[int, ...]:
    """Return after how many of the steps the step size is checked: 22, 41, 57, 70, 80, 87, 93 and 99 of 100."""
    window, sooner, least = (max(1, int(share * steps)) for share in (0.22, 0.03, 0.06))
    checks = [window]
    while checks[-1] < steps:
        window = max(window - sooner, least)
        checks.append(checks[-1] + window)
    return tuple(checks[:-1])


@dataclasses.dataclass(frozen=True)
class APGD:
    """Auto-PGD (Croce and Hein 2020): steps with momentum, halved at checkpoints where climbing has stalled.

    z = P(x + size steepest(grad)), x' = P(x + 0.75 (z - x) + 0.25 (x - x before)); the first step is z. The step is 2
    budgets at first. Checkpoints come after 22 % of the steps, then at intervals each 3 % shorter, of 6 % at least.
    There the step is halved, and the climb goes on from its best point, where the objective rose in at most `rho` of
    the steps since the last one, or where neither best objective nor step has changed since. Linf and L2; `APGDL1`
    is the rule for L1.
    Access: gradient. Cost: `steps` gradient looks and 1 forward. Raises `BadInput` for an endless budget, and for a
    `rho` outside [0, 1].
    """

    steps: Steps = 100
    rho: Rho = 0.75
    objective: Climbed = cross_entropy

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def __post_init__(self) -> None:
        check_options(self)

    def init(self, problem: Problem, draws: Draws) -> Climb:
        """Begin at the given start or at a random point, with steps of two budgets."""
        size = _budgets(problem, 2)
        x = problem.threat.start(problem.x, draws) if problem.start is None else problem.start
        best, yes = _nowhere(x), torch.ones(len(x), dtype=torch.bool, device=x.device)
        return Climb(x, x, best, size, best.loss, torch.zeros_like(size), best.loss, yes)

    def step(self, state: Climb, seen: Observation, problem: Problem, draws: Draws) -> Climb:
        """Remember the best point, check the step size where it is time, and climb."""
        here, threat = _remember(state, seen), problem.threat
        point, grad = here.query, gradient_of(seen)
        if here.t in checkpoints(self.steps):
            here = self._checked(here)
            back = rows(here.halved, point)
            point, grad = torch.where(back, here.best.point, point), torch.where(back, here.best.grad, grad)
        new = threat.project(point + rows(here.size, point) * threat.steepest(grad), problem.x)
        if here.t:
            mixed = point + _MOMENTUM * (new - point) + (1 - _MOMENTUM) * (point - state.previous)
            new = threat.project(mixed, problem.x)
        return here._replace(query=new, previous=point, t=here.t + 1)

    def _checked(self, state: Climb) -> Climb:
        before = max((at for at in checkpoints(self.steps) if at < state.t), default=0)
        unmoved = ~state.halved & (state.checked >= state.best.loss)
        halved = (state.ups <= self.rho * (state.t - before)) | unmoved
        size = torch.where(halved, state.size / 2, state.size)
        return state._replace(size=size, ups=torch.zeros_like(state.ups), checked=state.best.loss, halved=halved)


def _budgets(problem: Problem, times: float) -> Tensor:
    x = problem.x
    return torch.as_tensor(times * budget_of(problem), dtype=x.dtype, device=x.device).expand(len(x))


def _remember(state: Climb, seen: Observation) -> Climb:
    best = _higher(state.best, state.query, seen)
    if not state.t:
        return state._replace(best=best, last=seen.loss, checked=best.loss)
    return state._replace(best=best, last=seen.loss, ups=state.ups + (seen.loss > state.last))


class Sparse(NamedTuple):
    """Where a climber in L1 stands, and its step, in the threat's unit, which a `share` of the values divide.

    `changed` is how many values of the best point differed from the image at the last check. `t` looks have been made.
    """

    query: Tensor
    best: Best
    size: Tensor
    share: Tensor
    changed: Tensor
    t: int = 0
    done: bool = False


@dataclasses.dataclass(frozen=True)
class APGDL1:
    """Auto-PGD in L1 (Croce and Hein 2021): sign steps on the values with the largest gradients, as many as needed.

    x' = P(x + size sign(g) / k), g the gradient on its k largest values. Every 4 % of a ball's steps k becomes 1 / 1.5
    of the number of values changed at the best point (at first a fifth of all, without `large`). Where that number has
    fallen below 95 % of the one before, the climb goes on from its best point in steps of the budget; elsewhere steps
    shrink by 1.5, down to a tenth of it. With `large` the first 30 % of the steps climb in a ball of 3 budgets and the
    next 30 % in one of 2; each ball begins at the best point of the one before, projected.
    Access: gradient. Cost: `steps` gradient looks and 1 forward. Raises `BadInput` for an endless budget.
    """

    steps: int = 100
    large: bool = True
    objective: Objective = cross_entropy

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def init(self, problem: Problem, draws: Draws) -> Sparse:
        """Begin at the given start, or at normal noise projected on the first ball, which leaves few values changed."""
        x = problem.x
        if problem.start is not None:
            return self._entered(problem.start, problem, 0)
        noise = draws.normal("start", *x.shape[1:]).to(x.dtype) * problem.threat.scale
        first = self._entered(x + noise, problem, 0)
        if self.large:
            return first
        # what noise has changed says nothing yet about how many values are needed
        whole = torch.zeros_like(first.changed) + problem.threat.free(x)
        return first._replace(share=_SHARE * (whole / x[0].numel()), changed=whole)

    def step(self, state: Sparse, seen: Observation, problem: Problem, draws: Draws) -> Sparse:
        """Remember the best point, adapt sparsity and step where it is time, and climb; or enter the next ball."""
        best, t = _higher(state.best, state.query, seen), state.t
        begin, every, times = self._ball(t)
        if self._ball(t + 1)[0] > begin:
            return self._entered(best.point, problem, t + 1)
        here, point, grad = state._replace(best=best, t=t + 1), state.query, gradient_of(seen)
        if t > begin and (t - begin) % every == 0:
            changed = _changed(best.point, problem)
            fewer = changed < 0.95 * state.changed
            here = _checked(here, changed, fewer, _budgets(problem, times))
            back = rows(fewer, point)
            point, grad = torch.where(back, best.point, point), torch.where(back, best.grad, grad)
        moved = point + rows(here.size, point) * problem.threat.sparse_steepest(grad, here.share)
        ball = problem.threat.at(times * problem.threat.eps)
        return here._replace(query=ball.project(moved, problem.x))

    def _entered(self, point: Tensor, problem: Problem, t: int) -> Sparse:
        # what is known about the ball before is forgotten: its objectives are not this one's
        size = _budgets(problem, self._ball(t)[2])
        x = problem.threat.at(self._ball(t)[2] * problem.threat.eps).project(point, problem.x)
        changed = _changed(x, problem)
        return Sparse(x, _nowhere(x), size, changed / x[0].numel() / _FEWER, changed, t)

    def _ball(self, t: int) -> tuple[int, int, int]:
        """Return what holds at look `t`: where its ball began, how often to check, and the ball's size in budgets."""
        third = int(0.3 * self.steps)
        stages = ((0, 3), (third, 2), (2 * third, 1)) if self.large else ((0, 1),)
        begin, times = max((stage for stage in stages if stage[0] <= t), key=lambda stage: (stage[0], -stage[1]))
        length = third if times > 1 else self.steps - begin
        return begin, max(1, int(0.04 * length)), times


def _checked(state: Sparse, changed: Tensor, fewer: Tensor, budget: Tensor) -> Sparse:
    shorter = (state.size / _FEWER).maximum(budget / 10)
    features = state.query[0].numel()
    return state._replace(size=torch.where(fewer, budget, shorter), share=changed / features / _FEWER, changed=changed)


def _changed(z: Tensor, problem: Problem) -> Tensor:
    return flat(z != problem.x).sum(1).to(z.dtype)


def apgd(steps: Steps = 100, rho: Rho = 0.75, objective: Climbed = cross_entropy) -> ByNorm:
    """Return Auto-PGD for every norm; `rho` is for Linf and L2."""
    dense = APGD(steps, rho, objective)
    return ByNorm((("linf", dense), ("l2", dense), ("l1", APGDL1(steps, objective=objective)), ("ycbcr", dense)))


def apgd_targeted(steps: Steps = 100, rho: Rho = 0.75, targets: Targets = 9) -> ByNorm:
    """Return Auto-PGD on the targeted DLR, once towards each of the `targets` likeliest wrong classes.

    Cost: 1 forward to rank the classes, then that of APGD for each target.
    """
    return ByNorm(tuple((norm, EachTarget(attack, targets)) for norm, attack in apgd(steps, rho, dlr_targeted).choices))
