"""Carlini and Wagner: the smallest change that a descent on size and hinged margin together finds."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Inner, Kappa, Option, Rounds
from assay.attacks.parts.adam import Momenta
from assay.attacks.parts.constant_search import Constant, Variables, balance, cosine, settled_at, where
from assay.core.compose import ByNorm
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Observation
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

    def step(self, state: Descent, seen: Observation, problem: Problem, draws: Draws) -> Descent:
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

    def _noted(self, state: Descent, seen: Observation, problem: Problem) -> Descent:
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

    def step(self, state: Fewer, seen: Observation, problem: Problem, draws: Draws) -> Fewer:
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

    def _settled(self, state: Fewer, hit: Tensor, lost: Tensor, seen: Observation, problem: Problem) -> Fewer:
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

    def _moved(self, z: Tensor, state: Fewer, seen: Observation, problem: Problem) -> tuple[Tensor, Momenta]:
        threat, variables = problem.threat, Variables(problem.threat, self.tanh)
        pull = torch.where(seen.loss < 0, state.c, 0)
        downhill = 2 * (z - problem.x) / threat.scale / threat.scale - rows(pull, z) * gradient_of(seen)
        momenta = state.momenta.after(downhill * variables.slope(z) * state.free)
        rate = cosine(self.rate, state.t, self.inner)
        return variables.moved(z, -rows(rate, z) * momenta.direction(state.t + 1)), momenta


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

    def step(self, state: Squeeze, seen: Observation, problem: Problem, draws: Draws) -> Squeeze:
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

    def _noted(self, state: Squeeze, seen: Observation, problem: Problem) -> Squeeze:
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
