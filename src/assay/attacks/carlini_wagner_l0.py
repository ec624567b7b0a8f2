"""Carlini and Wagner in L0: an L2 attack on fewer and fewer values."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.adam import Momenta
from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.penalty import Variables, balance, cosine, where
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import counts, flat, rows


class Fewer(NamedTuple):
    """A row that may change the values `free` (bool `[N, *S]`).

    `kept` are those of its smallest success, whose point is `best` and whose values gain `worth` each; `share` is how
    much of the worth may be given up at once, `t` counts the steps on the values of now.
    """

    query: Tensor
    momenta: Momenta
    c: Tensor
    free: Tensor
    kept: Tensor
    best: Tensor
    worth: Tensor
    share: Tensor
    t: Tensor
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class CarliniWagnerL0:
    """Carlini and Wagner 2017 in L0: their L2 attack, after every success on the values that matter most.

    A value's worth is gradient_i * u_i at the success. Those of least worth are given up, up to `share` of the
    whole at once and one at least, and the descent goes on from there. After `inner` steps without a success c
    grows fourfold and the values of the last success come back, half as much is given up; a row ends where giving up
    one value has failed again and again. Unlike the paper's: several values go at once, a success ends its round, c
    begins where it balances size and margin, and the change is clipped to the box (`tanh=True` for the paper's
    variables). Counts values, as the L0 threat does. Cost: at most `steps` gradient looks and 1 forward.
    """

    steps: int = 500
    inner: int = 30
    rate: float = 0.1
    share: float = 0.3
    tanh: bool = False
    objective: Objective = margin
    keeps: Keeps = Keeps.SMALLEST

    access: ClassVar[Access] = Access.GRADIENT

    def init(self, problem: Problem, draws: Draws) -> Fewer:
        """Begin at the given start or at the image, free to change every value."""
        begin = start_of(problem)
        all_of_them = problem.threat.only(torch.ones_like(begin, dtype=torch.bool))
        c = begin.new_full((len(begin),), torch.nan)
        share = torch.full_like(c, self.share)
        zero = torch.zeros_like(begin)
        return Fewer(
            begin, Momenta.none(begin), c, all_of_them, all_of_them, problem.x, zero, share, counts(begin)
        )  # fmt: skip

    def step(self, state: Fewer, seen: Seen, problem: Problem, draws: Draws) -> Fewer:
        """Descend on the free values; give some up after a success, take them back after a failure."""
        grad, threat, x = gradient_of(seen), problem.threat, problem.x
        state = state._replace(c=torch.where(state.c.isnan(), balance(seen.loss, grad, threat), state.c))
        hit, out = seen.reached, ~seen.reached & (state.t + 1 >= self.inner)
        single = flat(state.kept ^ state.free).sum(1) <= 1
        unbroken = flat(state.best == x).all(1) & ~hit
        lost = out & ~unbroken
        state = self._settled(state, hit, lost, seen, problem)
        ended = hit | out
        z = where(hit | lost, state.best, state.query)
        fewer = self._given_up(state)
        free = where(hit | lost, fewer, state.free)
        moved, momenta = self._moved(z, state, seen, problem)
        begin = where(hit | lost, z, moved)
        return state._replace(
            query=torch.where(free, begin, x),
            momenta=momenta.where(ended),
            c=torch.where(out, 4 * state.c, state.c).clamp_max(1e30),
            free=free,
            t=(state.t + 1).masked_fill(ended, 0),
            done=(lost & single & (state.share < self.share / 8)) | flat(~state.kept).all(1),
        )

    def _settled(self, state: Fewer, hit: Tensor, lost: Tensor, seen: Seen, problem: Problem) -> Fewer:
        u = state.query - problem.x
        return state._replace(
            best=where(hit, state.query, state.best),
            kept=where(hit, u != 0, state.kept),
            worth=where(hit, gradient_of(seen) * u, state.worth),
            share=torch.where(lost, state.share / 2, state.share),
        )

    def _given_up(self, state: Fewer) -> Tensor:
        # the kept values without those of least worth, whose sum may be `share` of the whole
        kept = flat(state.kept)
        worth = torch.where(kept, flat(state.worth).clamp_min(0), torch.inf)
        least, order = worth.sort(dim=1, stable=True)
        finite = torch.where(least.isinf(), 0, least)
        gone = (finite.cumsum(1) <= rows(state.share * finite.sum(1), finite)) | (finite == 0)
        gone[:, 0] = True
        given = torch.zeros_like(kept).scatter(1, order, gone)
        return (kept & ~given).view_as(state.kept)

    def _moved(self, z: Tensor, state: Fewer, seen: Seen, problem: Problem) -> tuple[Tensor, Momenta]:
        threat, variables = problem.threat, Variables(problem.threat, self.tanh)
        pull = torch.where(seen.loss < 0, state.c, 0)
        downhill = 2 * (z - problem.x) / threat.scale / threat.scale - rows(pull, z) * gradient_of(seen)
        momenta = state.momenta.after(downhill * variables.slope(z) * state.free)
        rate = cosine(self.rate, state.t, self.inner)
        return variables.moved(z, -rows(rate, z) * momenta.direction(state.t + 1)), momenta
