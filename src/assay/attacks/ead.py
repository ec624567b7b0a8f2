"""EAD: the elastic-net attack, whose changes are small in L1 and therefore few."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Climbed, FirstWeight, Inner, Kappa, Option, Rounds
from assay.attacks.parts.constant_search import Constant, cosine, where
from assay.core.draws import Draws
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import counts, flat, rows


class Shrinking(NamedTuple):
    """A point and the one before, the constant, and the smallest success so far, in the threat's norm."""

    query: Tensor
    previous: Tensor
    constant: Constant
    t: Tensor
    rounds: Tensor
    hit: Tensor
    best: Tensor
    smallest: Tensor
    before: Tensor
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class EAD:
    """Elastic-net attack (Chen et al. 2018): minimise |u|_2^2 + beta |u|_1 + c max(kappa - margin, 0).

    A gradient step of size `rate` on the smooth part, then every value of the change comes `shrinkage` nearer to 0
    (ISTA; `fista` goes on from z + k / (k + 3) (z - z before), which is also the point that is judged: one look serves
    both). The success smallest in the threat's norm is kept: in L1 that is the paper's L1 rule. Its elastic-net rule,
    the smallest of both terms together, is left out: budgets have one norm, in which it could only do worse. The search
    for c is that of `CarliniWagner`; at first c moves the likeliest value by twice the shrinkage.
    Cost: at most `inner * rounds` gradient looks and 1 forward.
    """

    inner: Inner = 100
    rounds: Rounds = 5
    rate: Annotated[float, Option("Size of a gradient step.")] = 0.01
    beta: Annotated[float, Option("Weight of the L1 term.")] = 0.03
    c: FirstWeight = None
    kappa: Kappa = 0.0
    fista: Annotated[bool, Option("Whether steps are accelerated (FISTA) or plain (ISTA).")] = True
    objective: Climbed = margin
    keeps: Keeps = Keeps.SMALLEST

    access: ClassVar[Access] = Access.GRADIENT

    @property
    def steps(self) -> int:
        """All rounds together."""
        return self.inner * self.rounds

    def init(self, problem: Problem, draws: Draws) -> Shrinking:
        """Begin at the given start or at the image."""
        begin = start_of(problem)
        none, far = counts(begin), begin.new_full((len(begin),), torch.inf)
        return Shrinking(begin, begin, Constant.of(self.c, begin), none, none, none > 0, problem.x, far, far)

    def step(self, state: Shrinking, seen: Observation, problem: Problem, draws: Draws) -> Shrinking:
        """Step and shrink; at the end of a round, choose the next constant."""
        state = self._noted(state, seen, problem)
        x, threat, z = problem.x, problem.threat, state.query
        pull = torch.where(seen.loss < self.kappa, state.constant.value, 0)
        u = (z - x) / threat.scale
        downhill = 2 * u - rows(pull, z) * gradient_of(seen) * threat.scale
        rate = cosine(self.rate, state.t, self.inner)
        u = u - rows(rate, u) * downhill
        shrunk = u.sign() * (u.abs() - rows(rate / self.rate * self.beta, u)).clamp_min(0)
        point = threat.clip(x + threat.scale * shrunk)
        t = state.t + 1
        ahead = rows(state.t / (state.t + 3), z) * (point - state.previous)
        query = threat.clip(point + ahead) if self.fista else point
        ended = t >= self.inner
        begin, rounds = state.best, state.rounds + ended
        return state._replace(
            query=where(ended, begin, query),
            previous=where(ended, begin, point),
            constant=state.constant.after(ended, state.hit, 3),
            t=t.masked_fill(ended, 0),
            rounds=rounds,
            hit=state.hit & ~ended,
            before=torch.where(ended, state.smallest, state.before),
            done=(rounds >= self.rounds) | (state.smallest == 0),
        )

    def _noted(self, state: Shrinking, seen: Observation, problem: Problem) -> Shrinking:
        size = problem.threat.size(state.query, problem.x)
        hit = seen.reached & (seen.loss >= self.kappa)
        smaller = hit & (size < state.smallest)
        steep = flat(gradient_of(seen) * problem.threat.scale).abs().amax(1)
        first = 2 * self.beta / self.rate / steep.clamp_min(1e-20)
        return state._replace(
            constant=state.constant.known(first),
            # a round begins at a success: only where it ends says whether its constant holds the goal
            hit=state.hit | (hit & (2 * state.t >= self.inner)),
            best=where(smaller, state.query, state.best),
            smallest=torch.where(smaller, size, state.smallest),
        )
