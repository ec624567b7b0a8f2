"""Carlini and Wagner in L-infinity: nothing is charged below a threshold, and the threshold shrinks."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.adam import Momenta
from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.penalty import Variables, cosine, settled_at, where
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import counts, rows

# a threshold this close to the smallest success leaves nothing to look for
_SHARE, _CLOSE = 0.9, 0.997
_DOUBLINGS = 2


class Squeeze(NamedTuple):
    """A row under its threshold `tau`, a `share` of the smallest success.

    `t` counts the steps since the threshold or the constant changed, `failed` how often the constant doubled for it.
    """

    query: Tensor
    momenta: Momenta
    c: Tensor
    tau: Tensor
    share: Tensor
    t: Tensor
    failed: Tensor
    best: Tensor
    smallest: Tensor
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class CarliniWagnerLinf:
    """Carlini and Wagner 2017 in L-infinity: minimise sum_i max(|u_i| - tau, 0) + c max(kappa - margin(z), 0).

    After a success that keeps below the threshold tau it falls to 0.9 of the size reached, and the descent
    goes on from there; after `inner` steps without one, c doubles, without an upper end. Unlike the paper's: tau begins
    at the linearised distance and c at 1 / mean |gradient|, whatever the scale of the logits; where c has doubled
    twice in vain, tau comes half as close to the smallest success as before; and the change is clipped to the
    box (`tanh=True` for the paper's variables). Cost: at most `steps` gradient looks and 1 forward.
    """

    steps: int = 500
    inner: int = 15
    rate: float = 0.1
    kappa: float = 0.0
    tanh: bool = False
    objective: Objective = margin
    keeps: Keeps = Keeps.SMALLEST

    access: ClassVar[Access] = Access.GRADIENT

    def init(self, problem: Problem, draws: Draws) -> Squeeze:
        """Begin at the given start or at the image."""
        begin = start_of(problem)
        none, far = counts(begin), begin.new_full((len(begin),), torch.inf)
        unknown = torch.full_like(far, torch.nan)
        share = torch.full_like(far, _SHARE)
        return Squeeze(begin, Momenta.none(begin), unknown, unknown, share, none, none, problem.x, far)

    def step(self, state: Squeeze, seen: Seen, problem: Problem, draws: Draws) -> Squeeze:
        """Descend; lower the threshold after a success below it, raise the constant after a failure."""
        state = self._noted(state, seen, problem)
        z, threat, variables = state.query, problem.threat, Variables(problem.threat, self.tanh)
        u = (z - problem.x) / threat.scale
        charge = u.sign() * (u.abs() > rows(state.tau, z)) / threat.scale
        pull = torch.where(seen.loss < self.kappa, state.c, 0)
        momenta, t = state.momenta.after((charge - rows(pull, z) * gradient_of(seen)) * variables.slope(z)), state.t + 1
        rate = cosine(self.rate, state.t, self.inner) * state.tau * (1 - state.share) / (1 - _SHARE)
        moved = settled_at(problem.x, variables.moved(z, -rows(rate, z) * momenta.direction(t)))
        won = state.smallest <= state.tau
        out = ~won & (t >= self.inner)
        lost = out & (state.failed >= _DOUBLINGS) & state.smallest.isfinite()
        share = torch.where(lost, (1 + state.share) / 2, state.share)
        fresh = won | lost
        return state._replace(
            query=where(lost, state.best, moved),
            momenta=momenta.where(fresh | out),
            c=torch.where(out & ~lost, 2 * state.c, state.c).clamp_max(1e30),
            tau=torch.where(fresh, share * state.smallest, state.tau),
            share=share,
            t=t.masked_fill(fresh | out, 0),
            failed=(state.failed + out).masked_fill(fresh, 0),
            done=(share > _CLOSE) | (state.smallest == 0),
        )

    def _noted(self, state: Squeeze, seen: Seen, problem: Problem) -> Squeeze:
        grad, threat = gradient_of(seen), problem.threat
        size = threat.size(state.query, problem.x)
        smaller = seen.reached & (seen.loss >= self.kappa) & (size < state.smallest)
        steep = threat.dual(grad).clamp_min(1e-20)
        first = state.tau.isnan()
        return state._replace(
            c=torch.where(first, threat.free(grad) * steep.reciprocal(), state.c).clamp_max(1e30),
            tau=torch.where(first, seen.loss.abs() / steep, state.tau),
            best=where(smaller, state.query, state.best),
            smallest=torch.where(smaller, size, state.smallest),
        )
