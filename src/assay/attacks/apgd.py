"""Auto-PGD: projected gradient ascent that finds its own step size."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import budget_of, gradient_of
from assay.core.compose import ByNorm, EachTarget
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.objective import Objective, cross_entropy, dlr_targeted
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import flat, rows
from assay.core.threat import Threat

_MOMENTUM = 0.75


class Climb(NamedTuple):
    """A climber's place, its best place so far, and what it remembers since the last checkpoint.

    `size` is the step in the threat's unit; `last` the loss at the latest place, `ups` how often it rose since the
    checkpoint, `checked` the best loss there and `reduced` whether the step was halved there. `t` counts looks,
    `since` those after the checkpoint, `window` is how many there are to the next: the same for every row.
    """

    query: Tensor
    previous: Tensor
    best: Tensor
    best_grad: Tensor
    best_loss: Tensor
    size: Tensor
    last: Tensor
    ups: Tensor
    checked: Tensor
    reduced: Tensor
    t: int
    since: int
    window: int
    done: bool = False


@dataclasses.dataclass(frozen=True)
class APGD:
    """Auto-PGD (Croce and Hein 2020): steps with momentum, halved at checkpoints where climbing has stalled.

    z = P(x + size steepest(grad)), x' = P(x + 0.75 (z - x) + 0.25 (x - x before)); the first step is z. The step is 2
    eps at first. Checkpoints come after 22 % of the steps, then each 3 % sooner, at least 6 % apart; there the
    step is halved, and the climb goes on from its best point, where the loss rose in at most `rho` of the steps, or
    where neither step nor best loss has changed since the last checkpoint. Linf and L2.
    Cost: `steps` gradient looks and 1 forward.
    """

    steps: int = 100
    rho: float = 0.75
    objective: Objective = cross_entropy

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def __post_init__(self) -> None:
        _share("rho", self.rho)

    def init(self, problem: Problem, draws: Draws) -> Climb:
        """Begin at the given start or at a random point, with steps of two budgets."""
        x = _begin(problem, draws)
        nothing = x.new_full((len(x),), -torch.inf)
        size = torch.as_tensor(2 * budget_of(problem), dtype=x.dtype, device=x.device).expand(len(x))
        no = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        none = torch.zeros_like(nothing)
        return Climb(x, x, x, x, nothing, size, nothing, none, nothing, no, 0, 0, max(1, int(0.22 * self.steps)))

    def step(self, state: Climb, seen: Seen, problem: Problem, draws: Draws) -> Climb:
        """Remember the best point, check the step size where it is time, and climb."""
        state = _remember(state, seen)
        point, grad = state.query, gradient_of(seen)
        if state.t and state.since == state.window:
            halve = (state.ups <= self.rho * state.window) | (~state.reduced & (state.checked >= state.best_loss))
            back = rows(halve, point)
            point, grad = torch.where(back, state.best, point), torch.where(back, state.best_grad, grad)
            shorter = max(state.window - max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1))
            state = state._replace(
                size=torch.where(halve, state.size / 2, state.size), checked=state.best_loss, reduced=halve,
                ups=torch.zeros_like(state.ups), since=0, window=shorter,
            )  # fmt: skip
        threat = problem.threat
        new = threat.project(point + rows(state.size, point) * threat.steepest(grad), problem.x)
        if state.t:
            mixed = point + _MOMENTUM * (new - point) + (1 - _MOMENTUM) * (point - state.previous)
            new = threat.project(mixed, problem.x)
        return state._replace(query=new, previous=point, t=state.t + 1)


def _begin(problem: Problem, draws: Draws) -> Tensor:
    return problem.threat.start(problem.x, draws) if problem.start is None else problem.start


def _remember(state: Climb, seen: Seen) -> Climb:
    risen = seen.loss > state.best_loss
    up = rows(risen, state.query)
    first = state.t == 0
    best_loss = torch.where(risen, seen.loss, state.best_loss)
    return state._replace(
        best=torch.where(up, state.query, state.best),
        best_grad=torch.where(up, gradient_of(seen), state.best_grad),
        best_loss=best_loss,
        last=seen.loss,
        ups=state.ups if first else state.ups + (seen.loss > state.last),
        checked=best_loss if first else state.checked,
        since=0 if first else state.since + 1,
    )


class Sparse(NamedTuple):
    """As `Climb`, in L1: `share` of the values take part in a step; `held` had changed at the last checkpoint."""

    query: Tensor
    best: Tensor
    best_grad: Tensor
    best_loss: Tensor
    size: Tensor
    share: Tensor
    held: Tensor
    t: int
    done: bool = False


@dataclasses.dataclass(frozen=True)
class APGDL1:
    """Auto-PGD in L1 (Croce and Hein 2021): sign steps on the values with the largest gradients, as many as needed.

    A step of `size` is shared by the best k values, k = 20 % of them at first; every 4 % of the steps k becomes 1 / 1.5
    of the values changed at the best point. Where that number has fallen below 95 % of the one before, the
    climb goes on from its best point with steps of eps again; elsewhere steps shrink by 1.5, down to eps / 10. With
    `large` the first 30 % of the steps search the ball of 3 eps, the next 30 % that of 2 eps.
    Cost: `steps` gradient looks and 1 forward.
    """

    steps: int = 100
    large: bool = True
    objective: Objective = cross_entropy

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def init(self, problem: Problem, draws: Draws) -> Sparse:
        """Begin at the given start, or at a random point of the first ball."""
        ball = self._ball(problem.threat, 0)
        x = _begin(dataclasses.replace(problem, threat=ball), draws)
        return self._entered(x, problem, 0)

    def _entered(self, x: Tensor, problem: Problem, t: int) -> Sparse:
        # into a smaller ball with what is known about the last one forgotten: its losses are not this ball's
        features = x[0].numel()
        changed = flat(x != problem.x).sum(1).to(x.dtype)
        share = torch.full_like(changed, 0.2) if t == 0 else changed / features / _FEWER
        nothing = torch.full_like(changed, -torch.inf)
        size = torch.as_tensor(self._ball(problem.threat, t).eps, dtype=x.dtype, device=x.device).expand(len(x))
        held = torch.full_like(changed, features) if t == 0 else changed
        return Sparse(x, x, x, nothing, size, share, held, t)

    def _ball(self, threat: Threat, t: int) -> Threat:
        if not self.large or t >= self._stages[1]:
            return threat
        return threat.at((3 if t < self._stages[0] else 2) * threat.eps)

    @property
    def _stages(self) -> tuple[int, int]:
        # when the second ball begins, and the last
        return int(0.3 * self.steps), int(0.6 * self.steps)

    def step(self, state: Sparse, seen: Seen, problem: Problem, draws: Draws) -> Sparse:
        """Remember the best point, adapt sparsity and step where it is time, and climb."""
        budget_of(problem)
        ball, t = self._ball(problem.threat, state.t), state.t + 1
        risen = seen.loss > state.best_loss
        up = rows(risen, state.query)
        best, best_grad = (
            torch.where(up, new, old) for new, old in ((state.query, state.best), (gradient_of(seen), state.best_grad))
        )
        best_loss = torch.where(risen, seen.loss, state.best_loss)
        point, grad, size, share, held = state.query, gradient_of(seen), state.size, state.share, state.held
        if self.large and t in self._stages:
            inner = self._ball(problem.threat, t)
            return self._entered(inner.project(best, problem.x), problem, t)
        if state.t and state.t % max(int(0.04 * self.steps), 1) == 0:
            changed = flat(best != problem.x).sum(1).to(size.dtype)
            fewer = changed < 0.95 * held
            eps = torch.as_tensor(ball.eps, dtype=size.dtype, device=size.device)
            size = torch.where(fewer, eps, (size / _FEWER).maximum(eps / 10).minimum(eps))
            back = rows(fewer, point)
            point, grad = torch.where(back, best, point), torch.where(back, best_grad, grad)
            share, held = changed / point[0].numel() / _FEWER, changed
        moved = point + rows(size, point) * problem.threat.sparse_steepest(grad, share)
        return Sparse(ball.project(moved, problem.x), best, best_grad, best_loss, size, share, held, t)


_FEWER = 1.5


def apgd(steps: int = 100, rho: float = 0.75, objective: Objective = cross_entropy) -> ByNorm:
    """Return Auto-PGD for every norm; `rho` is for Linf and L2."""
    dense = APGD(steps, rho, objective)
    return ByNorm((("linf", dense), ("l2", dense), ("l1", APGDL1(steps, objective=objective))))


def apgd_targeted(steps: int = 100, rho: float = 0.75, targets: int = 9) -> ByNorm:
    """Return Auto-PGD on the targeted DLR, once towards each of the `targets` likeliest wrong classes."""
    return ByNorm(tuple((norm, EachTarget(attack, targets)) for norm, attack in apgd(steps, rho, dlr_targeted).choices))


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise BadInput(f"{name} is {value}, expected a share from 0 to 1.")
