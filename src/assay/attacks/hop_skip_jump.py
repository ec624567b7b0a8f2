"""HopSkipJump: along the boundary, by labels alone."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.decision import directions, noise_image, toward
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import counts, flat, rows

LOOK, START, BISECT, ESTIMATE, ADVANCE = range(5)


class Tally(NamedTuple):
    """What the probes around a point said: the sum of directions, the sum of signed ones, of signs, and how many."""

    plain: Tensor
    signed: Tensor
    balance: Tensor
    n: Tensor


class Hop(NamedTuple):
    """A sample's place in the programme: its phase, the looks left in it, and what the phases hand on.

    `point` is adversarial, of size `high`; the boundary is sought between the sizes `low` and `high` of the way from
    the image to `base`. `path` is the direction away from the boundary, `stride` how far along it to go.
    """

    query: Tensor
    phase: Tensor
    left: Tensor
    round: Tensor
    point: Tensor
    base: Tensor
    low: Tensor
    high: Tensor
    tally: Tally
    path: Tensor
    stride: Tensor
    t: int
    done: Tensor


@dataclasses.dataclass(frozen=True)
class HopSkipJump:
    queries: int = 10_000
    first: int = 100
    tries: int = 50
    share: float = 1.0
    tolerance: float = 1e-3
    probe: float = 0.0
    reserve: int = 12
    starts: int = 1
    grow: float = 0.5
    memory: float = 0.0

    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    @property
    def objective(self) -> Objective:
        return margin

    @property
    def steps(self) -> int:
        return self.queries - 1

    def init(self, problem: Problem, draws: Draws) -> Hop:
        x = problem.x
        none, zero, nil = counts(x), x.new_zeros(len(x)), torch.zeros_like(x)
        tally = Tally(nil, nil, zero, zero)
        return Hop(x, none, none + self.tries, none, x, x, zero, zero, tally, nil, zero, 0, none.bool())

    def step(self, state: Hop, seen: Seen, problem: Problem, draws: Draws) -> Hop:
        now = self._told(state._replace(left=state.left - 1, t=state.t + 1), seen.reached, problem)
        return now._replace(query=self._next(now, problem, draws))

    def _told(self, s: Hop, hit: Tensor, problem: Problem) -> Hop:
        x = problem.x
        size = problem.threat.size(s.query, x)
        look, start, bisect, estimate, advance = (s.phase == k for k in range(5))
        # START
        # found: the first adversarial image, or a closer one
        if self.starts > 1:
            onward = start & (s.left <= 0) & (s.high > 0)
            found = start & hit
            base = torch.where(rows(found, x), s.query, s.base)
            high = torch.where(found, size, s.high)
            left = torch.where(found & (s.high == 0), self.starts - 1, s.left)
            onward = start & (left <= 0) & (high > 0)
            found = onward
        else:
            found = start & hit
            base = torch.where(rows(found, x), s.query, s.base)
            high = torch.where(found, size, s.high)
            left = s.left
        done = s.done | (look & hit) | (start & (left <= 0) & (high == 0))
        # BISECT
        inside = bisect & hit
        point = torch.where(rows(inside | found, x), torch.where(rows(found, x), base, s.query), s.point)
        high = torch.where(inside, size, high)
        low = torch.where(bisect & ~hit, size, s.low)
        # ADVANCE
        landed, short = advance & hit, advance & ~hit
        if bool(landed.any()):
            point, base = (torch.where(rows(landed, x), s.query, one) for one in (point, base))
            high = torch.where(landed, size, high)
        stride = torch.where(short, s.stride / 2, s.stride)
        stuck = short & (stride < 1e-4 * high)
        low = torch.where(found | landed, 0, low)
        rnd = s.round
        closed = (bisect & (high - low <= self.tolerance * high)) | stuck
        rnd = torch.where(closed, rnd + 1, rnd)
        # ESTIMATE
        tally, path = s.tally, s.path
        if bool(estimate.any()):
            tally = self._counted(s, hit, estimate, problem)
        estimated = estimate & (left <= 0)
        if bool(estimated.any()):
            path = torch.where(rows(estimated, x), self._path(tally, problem, path), path)
            stride = torch.where(estimated, high / rnd.to(x.dtype) ** self.grow, stride)
        if bool(closed.any()):
            want = (self.first * rnd.to(x.dtype).sqrt()).long()
            remain = self.queries - s.t - self.reserve
            left = torch.where(closed, want.clamp(max=max(remain, 1)), left)
            keep = ~closed
            tally = Tally(
                *(one * rows(keep.to(x.dtype), one) for one in tally)
            )
        phase = s.phase
        for mask, to in ((look, START), (found | landed, BISECT), (closed, ESTIMATE), (estimated, ADVANCE)):
            phase = torch.where(mask, to, phase)
        return s._replace(
            phase=phase, left=left, round=rnd, point=point, base=base, low=low, high=high, tally=tally,
            path=path, stride=stride, done=done,
        )

    def _radius(self, s: Hop, d: int) -> Tensor:
        if self.probe:
            return self.probe * s.high
        return torch.where(s.round == 1, 0.1, s.high / d)

    def _counted(self, s: Hop, hit: Tensor, estimate: Tensor, problem: Problem) -> Tally:
        x = problem.x
        weight = estimate.to(x.dtype)
        sign = torch.where(hit, weight, -weight)
        u = s.query - s.point
        u = u / rows(self._radius(s, x[0].numel()), u)
        tally = s.tally
        return Tally(
            torch.addcmul(tally.plain, u, rows(weight, u)),
            torch.addcmul(tally.signed, u, rows(sign, u)),
            tally.balance + sign,
            tally.n + weight,
        )

    def _path(self, tally: Tally, problem: Problem, old: Tensor) -> Tensor:
        mean = tally.balance / tally.n.clamp_min(1)
        away = tally.signed - rows(torch.where(mean.abs() < 1, mean, 0), old) * tally.plain
        path = problem.threat.unit(away / problem.threat.scale**2)
        if self.memory:
            path = problem.threat.unit(path+ self.memory*old)
        return path

    def _next(self, s: Hop, problem: Problem, draws: Draws) -> Tensor:
        x, threat = problem.x, problem.threat
        query = s.query
        for k, ask in ((START, self._ask_start), (BISECT, self._ask_bisect), (ESTIMATE, self._ask_estimate), (ADVANCE, self._ask_advance)):
            at = s.phase == k
            if bool(at.all()):
                return ask(s, problem, draws)
            if bool(at.any()):
                query = torch.where(rows(at, x), ask(s, problem, draws), query)
        return query

    def _ask_start(self, s, problem, draws):
        noise = noise_image(problem, draws, s.t - 1)
        if self.starts > 1:
            have = s.high > 0
            size = problem.threat.size(noise, problem.x)
            cut = torch.where(have, 0.9 * s.high, size)
            return toward(problem, noise, cut)
        return noise

    def _ask_bisect(self, s, problem, draws):
        return toward(problem, s.base, (s.low + s.high) / 2)

    def _ask_estimate(self, s, problem, draws):
        return problem.threat.clip(s.point + rows(self._radius(s, problem.x[0].numel()), s.point) * directions(problem, draws, self.share))

    def _ask_advance(self, s, problem, draws):
        return problem.threat.clip(s.point + rows(s.stride, s.point) * problem.threat.steepest(s.path))
