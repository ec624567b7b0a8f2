"""Carlini and Wagner: the smallest change that a descent on size and hinged margin together finds."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.adam import Momenta
from assay.attacks.carlini_wagner_l0 import CarliniWagnerL0
from assay.attacks.carlini_wagner_linf import CarliniWagnerLinf
from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Inner, Kappa, Option, Rounds
from assay.attacks.penalty import Constant, Variables, balance, cosine, settled_at, where
from assay.core.compose import ByNorm
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import counts, flat, rows

# a round that improves by less than this is a row's last
_WORTHWHILE = 0.999


class Descent(NamedTuple):
    """A row's place in its round, the constant it weighs with, and the smallest success so far.

    `rate` is its first step size, `t` counts the steps of the round, `rounds` those that ended, `hit` says whether
    this one met the goal, `before` is the smallest size when it began.
    """

    query: Tensor
    momenta: Momenta
    constant: Constant
    rate: Tensor
    t: Tensor
    rounds: Tensor
    hit: Tensor
    best: Tensor
    smallest: Tensor
    before: Tensor
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class CarliniWagner:
    """Carlini and Wagner 2017 in L2: minimise |z - x|^2 + c max(kappa - margin(z), 0), and search for c.

    Adam descends for `inner` steps, then every sample takes its next c: larger until the goal is met, smaller once it
    is, then in between; `rounds` rounds at most, and none once c is known to a factor of 2 and a round has made the
    smallest change less than 0.1 % smaller. Unlike the paper's: c is first what balances both terms on the linearised
    boundary (`c=1e-3` is the paper's), so that networks with inflated logits need no search through decades; a round
    begins at the best point; the rate is `rate` at most, less where the boundary is near, and falls on a cosine; and
    the change is clipped to the box, since from a black or white pixel the paper's tanh (`tanh=True`) takes hundreds
    of steps to get anywhere. `kappa` is the confidence asked for; the smallest success is kept all the same, so
    examples for transfer want `keeps=Keeps.LAST`. `objective` must be above 0 where the goal is met. Cost: at most
    `inner * rounds` gradient looks and 1 forward.
    """

    inner: int = 100
    rounds: int = 5
    rate: float = 0.1
    c: float | None = None
    kappa: float = 0.0
    tanh: bool = False
    objective: Objective = margin
    keeps: Keeps = Keeps.SMALLEST

    access: ClassVar[Access] = Access.GRADIENT

    @property
    def steps(self) -> int:
        """All rounds together."""
        return self.inner * self.rounds

    def init(self, problem: Problem, draws: Draws) -> Descent:
        """Begin at the given start or at the image."""
        begin = start_of(problem)
        none, far = counts(begin), begin.new_full((len(begin),), torch.inf)
        constant = Constant.of(self.c, begin)
        return Descent(begin, Momenta.none(begin), constant, far, none, none, none > 0, problem.x, far, far)

    def step(self, state: Descent, seen: Seen, problem: Problem, draws: Draws) -> Descent:
        """Descend; at the end of a round, choose the next constant."""
        state = self._noted(state, seen, problem)
        z, threat, variables = state.query, problem.threat, Variables(problem.threat, self.tanh)
        pull = torch.where(seen.loss < self.kappa, state.constant.value, 0)
        downhill = 2 * (z - problem.x) / threat.scale / threat.scale - rows(pull, z) * gradient_of(seen)
        momenta, t = state.momenta.after(downhill * variables.slope(z)), state.t + 1
        moved = variables.moved(z, -rows(state.rate * cosine(1.0, state.t, self.inner), z) * momenta.direction(t))
        moved = settled_at(problem.x, moved)
        ended = t >= self.inner
        rounds = state.rounds + ended
        constant = state.constant.after(ended, state.hit, 10)
        settled = (constant.high <= 2 * constant.low) & (state.smallest > _WORTHWHILE * state.before)
        return state._replace(
            query=where(ended, state.best, moved),
            momenta=momenta.where(ended),
            constant=constant,
            t=t.masked_fill(ended, 0),
            rounds=rounds,
            hit=state.hit & ~ended,
            before=torch.where(ended, state.smallest, state.before),
            done=(ended & settled) | (rounds >= self.rounds) | (state.smallest == 0),
        )

    def _noted(self, state: Descent, seen: Seen, problem: Problem) -> Descent:
        size = problem.threat.size(state.query, problem.x)
        # four times each value's part of the linearised distance: more would jump about a boundary that is near
        reach = seen.loss.abs() / flat(gradient_of(seen) * problem.threat.scale).norm(dim=1).clamp_min(1e-20)
        stride = (4 * reach / problem.threat.free(problem.x) ** 0.5).clamp_max(self.rate)
        hit = seen.reached & (seen.loss >= self.kappa)
        smaller = hit & (size < state.smallest)
        return state._replace(
            constant=state.constant.known(balance(seen.loss, gradient_of(seen), problem.threat)),
            rate=torch.where(state.rate.isinf(), stride, state.rate),
            # a round begins at a success: only where it ends says whether its constant holds the goal
            hit=state.hit | (hit & (2 * state.t >= self.inner)),
            best=where(smaller, state.query, state.best),
            smallest=torch.where(smaller, size, state.smallest),
        )


def carlini_wagner(
    inner: Inner = 100,
    rounds: Rounds = 5,
    kappa: Kappa = 0.0,
    tanh: Annotated[bool, Option("Whether to search in the space of the inverse tangent, as the paper does.")] = False,
) -> ByNorm:
    """Return the attack of Carlini and Wagner 2017 for the norm at hand, of `inner * rounds` steps at most."""
    steps = inner * rounds
    return ByNorm(
        (
            ("l2", CarliniWagner(inner, rounds, kappa=kappa, tanh=tanh)),
            ("linf", CarliniWagnerLinf(steps, kappa=kappa, tanh=tanh)),
            ("l0", CarliniWagnerL0(steps, tanh=tanh)),
        )
    )
