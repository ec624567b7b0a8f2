"""HopSkipJump: along the boundary, by labels alone."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.options import Option, Queries, Smoothness, Tries, check_options
from assay.attacks.parts.boundary_walk import Between, approached, begun, closed, cut, directions, found_start, started
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import counts, rows

# the image itself, a start, the boundary on the way to it, probes around a boundary point, the step away from there
LOOK, START, BISECT, ESTIMATE, ADVANCE = range(5)


class Tally(NamedTuple):
    """What the probes around a point said: the sum of their directions, of signed ones, of signs, and how many."""

    plain: Tensor
    signed: Tensor
    balance: Tensor
    n: Tensor


class Hop(NamedTuple):
    """A sample's place in the programme: its phase, the looks left in it, which round it is, and what phases hand on.

    `path` (`[N, *S]`) is the gradient estimated at the boundary, `stride` (`[N]`) is how far the step along it goes.
    """

    query: Tensor
    phase: Tensor
    left: Tensor
    round: Tensor
    way: Between
    tally: Tally
    path: Tensor
    stride: Tensor
    t: int
    done: Tensor


@dataclasses.dataclass(frozen=True)
class HopSkipJump:
    """HopSkipJump (Chen et al. 2020): from a boundary point step along an estimated gradient, return to the boundary.

    Round t: `first` sqrt(t) probes at `probe` times the distance d give the gradient sum (s - mean s) u, s = +-1 the
    verdict in direction u; a step of d / sqrt(t), halved until adversarial; bisection towards the image, until the
    distance is known to a share `tolerance`. The paper's probes (d / D for D values) see little but the rounding of the
    bisection. `smoothness` / t prefers directions of low frequency (after Guo et al. 2018): 0 is the paper's choice.
    Begins at the problem's start, or at noise; a sample that finds none in `tries` gives up. Labels alone; keeps the
    smallest success. Cost: at most `queries` forwards, the image's own, noise and bisections included. Raises
    `BadInput` for a tolerance or probe that is not between 0 and 1.
    """

    queries: Queries = 10_000
    first: Annotated[int, Option("Probes of the first round.", "forward passes")] = 50
    tries: Tries = 50
    probe: Annotated[float, Option("Length of a probe.", "share of the distance", most=1, above=True, below=True)] = 0.1
    tolerance: Annotated[
        float,
        Option("How closely bisection finds the boundary.", "share of the distance", most=1, above=True, below=True),
    ] = 0.01
    smoothness: Smoothness = 4.0

    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what a look reports."""
        return margin

    @property
    def steps(self) -> int:
        """Queries before the last one."""
        return self.queries - 1

    def init(self, problem: Problem, draws: Draws) -> Hop:
        """Ask about the image: a sample that is wrong without an attack is done."""
        x = problem.x
        none, zero, nil = counts(x), x.new_zeros(len(x)), torch.zeros_like(x)
        tally = Tally(nil, nil, zero, zero)
        return Hop(x, none, none + 1 + self.tries, none, begun(x), tally, nil, zero, 0, none.bool())

    def step(self, state: Hop, seen: Observation, problem: Problem, draws: Draws) -> Hop:
        """Take in the answer, each sample by its phase, and ask the next question of each."""
        told = self._told(state._replace(left=state.left - 1, t=state.t + 1), seen.reached, problem)
        return told._replace(query=self._asked(told, problem, draws))

    def _told(self, s: Hop, hit: Tensor, problem: Problem) -> Hop:
        look, start, bisect, estimate, advance = (s.phase == k for k in (LOOK, START, BISECT, ESTIMATE, ADVANCE))
        # a start, or a step that landed on the goal's side: from there towards the image
        fresh = (start | advance) & hit
        way = found_start(s.way, fresh, s.query, problem)
        way = approached(way, bisect, hit, s.query, problem)
        short = advance & ~hit
        stride = torch.where(short, s.stride / 2, s.stride)
        stuck = short & (stride < 1e-4 * way.high)
        found = (bisect & closed(way, self.tolerance)) | stuck
        s = s._replace(
            way=way,
            stride=stride,
            round=s.round + found,
            left=torch.where(found, self._probes(s), s.left),
            done=s.done | (look & hit) | (start & ~hit & (s.left <= 0)),
        )
        if bool(found.any()):
            gone = (~found).to(way.high.dtype)
            s = s._replace(tally=Tally(*(one * rows(gone, one) for one in s.tally)))
        if bool(estimate.any()):
            s = self._counted(s, hit, estimate, problem)
        estimated = estimate & (s.left <= 0)
        phase = s.phase
        for rows_there, to in ((look, START), (fresh, BISECT), (found, ESTIMATE), (estimated, ADVANCE)):
            phase = torch.where(rows_there, to, phase)
        return s._replace(phase=phase)

    def _probes(self, s: Hop) -> Tensor:
        # an estimate that the queries do not outlast would be for nothing: keep some for the step and the bisection
        most = max(1, self.queries - s.t - _RETURN)
        return (self.first * (s.round + 1).double().sqrt()).long().clamp(max=most)

    def _smooth(self, s: Hop) -> Tensor:
        # smooth directions find a way sooner, but lead past the nearest point: less of them in each round
        return self.smoothness / s.round.clamp_min(1).to(s.stride.dtype)

    def _counted(self, s: Hop, hit: Tensor, estimate: Tensor, problem: Problem) -> Hop:
        x, tally = problem.x, s.tally
        weight = estimate.to(x.dtype)
        sign = torch.where(hit, weight, -weight)
        # in units of the radius; the box may have shortened them
        u = (s.query - s.way.point) / rows((self.probe * s.way.high).clamp_min(1e-30), x)
        plain = torch.addcmul(tally.plain, u, rows(weight, u))
        signed = torch.addcmul(tally.signed, u, rows(sign, u))
        tally = Tally(plain, signed, tally.balance + sign, tally.n + weight)
        over = estimate & (s.left <= 0)
        if not bool(over.any()):
            return s._replace(tally=tally)
        mean = tally.balance / tally.n.clamp_min(1)
        # with equal verdicts all round there is no contrast: away from all of them, or along all
        away = signed - rows(torch.where(mean.abs() < 1, mean, 0), x) * plain
        path = torch.where(rows(over, x), away / problem.threat.scale**2, s.path)
        stride = torch.where(over, s.way.high / s.round.clamp_min(1).to(x.dtype).sqrt(), s.stride)
        return s._replace(tally=tally, path=path, stride=stride)

    def _asked(self, s: Hop, problem: Problem, draws: Draws) -> Tensor:
        query = s.query
        for phase in (START, BISECT, ESTIMATE, ADVANCE):
            here = s.phase == phase
            if bool(here.any()):
                query = torch.where(rows(here, query), self._question(s, phase, problem, draws), query)
        return query

    def _question(self, s: Hop, phase: int, problem: Problem, draws: Draws) -> Tensor:
        if phase == START:
            return started(problem, draws, s.t - 1)
        if phase == BISECT:
            return cut(s.way, problem)
        if phase == ESTIMATE:
            move = rows(self.probe * s.way.high, s.path) * directions(problem, draws, self._smooth(s))
        else:
            move = rows(s.stride, s.path) * problem.threat.steepest(s.path)
        return problem.threat.clip(s.way.point + move)


# queries that a step and its bisection take
_RETURN = 12
