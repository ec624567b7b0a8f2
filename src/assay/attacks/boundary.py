"""Boundary attack: a random walk along the boundary towards the image, by labels alone."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.options import Option, Queries, Smoothness, Tries
from assay.attacks.parts.boundary_walk import Between, approached, begun, closed, cut, directions, found_start, started
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import counts, flat, rows

# the image itself, a start, the boundary on the way to it, a point as far away as the last, the same one nearer
LOOK, START, BISECT, AROUND, NEARER = range(5)


class Walk(NamedTuple):
    """A sample's place in the programme, both step sizes (shares of the distance), and how often each kind succeeded.

    `hits` and `trials` (`[N, 2]`) count since the sizes last changed: points as far away, and points nearer.
    """

    query: Tensor
    phase: Tensor
    left: Tensor
    way: Between
    side: Tensor
    nearer: Tensor
    hits: Tensor
    trials: Tensor
    t: int
    done: Tensor


@dataclasses.dataclass(frozen=True)
class Boundary:
    """Boundary attack (Brendel et al. 2018): walk among adversarial images, a little nearer each time.

    A proposal goes `side` distances at right angles to the way to the image, back onto the sphere around it, then
    `nearer` distances inwards. `side` is adapted so that about half of the points on the sphere stay adversarial (one
    more question in five), `nearer` so that about a quarter of the proposals do; both by a factor of 1.5, after ten
    trials. Begins as HopSkipJump does. `smoothness` prefers directions of low frequency; 0 is the paper's
    choice. Labels alone; L2; keeps the smallest success. Cost: at most `queries` forwards, all included.
    """

    queries: Queries = 10_000
    side: Annotated[float, Option("First step at right angles to the way to the image.", "distances")] = 0.1
    nearer: Annotated[float, Option("First step towards the image.", "distances")] = 0.05
    tries: Tries = 50
    smoothness: Smoothness = 2.0

    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what a look reports."""
        return margin

    @property
    def steps(self) -> int:
        """Queries before the last one."""
        return self.queries - 1

    def init(self, problem: Problem, draws: Draws) -> Walk:
        """Ask about the image: a sample that is wrong without an attack is done."""
        x = problem.x
        none, zero = counts(x), x.new_zeros(len(x))
        two = x.new_zeros(len(x), 2)
        return Walk(
            x, none, none + 1 + self.tries, begun(x), zero + self.side, zero + self.nearer, two, two, 0, none.bool()
        )

    def step(self, state: Walk, seen: Observation, problem: Problem, draws: Draws) -> Walk:
        """Take in the answer, each sample by its phase, and ask the next question of each."""
        told = self._told(state._replace(left=state.left - 1, t=state.t + 1), seen.reached, problem)
        return told._replace(query=self._asked(told, problem, draws))

    def _told(self, s: Walk, hit: Tensor, problem: Problem) -> Walk:
        look, start, bisect, around, nearer = (s.phase == k for k in (LOOK, START, BISECT, AROUND, NEARER))
        way = found_start(s.way, start & hit, s.query, problem)
        way = approached(way, bisect, hit, s.query, problem)
        reached = bisect & closed(way, _TOLERANCE)
        moved = nearer & hit
        if bool(moved.any()):
            size = problem.threat.size(s.query, problem.x)
            point = torch.where(rows(moved, s.query), s.query, way.point)
            way = way._replace(point=point, high=torch.where(moved, size, way.high))
        left = torch.where(reached | (around | (nearer & (s.left <= 0))), _EACH, s.left)
        done = s.done | (look & hit) | (start & ~hit & (s.left <= 0))
        phase = s.phase
        to_side = nearer & (s.left <= 0)
        for there, to in ((look, START), (start & hit, BISECT), (reached | to_side, AROUND), (around, NEARER)):
            phase = torch.where(there, to, phase)
        kinds = torch.stack([around, nearer], 1)
        s = s._replace(
            way=way, phase=phase, left=left, done=done, hits=s.hits + (kinds & hit[:, None]), trials=s.trials + kinds
        )
        return self._adapted(s)

    def _adapted(self, s: Walk) -> Walk:
        full = s.trials >= _TRIALS
        if not bool(full.any()):
            return s
        share = s.hits / s.trials.clamp_min(1)
        often, seldom = full & (share > share.new_tensor([0.5, 0.25])), full & (share < share.new_tensor([0.2, 0.1]))
        factor = torch.where(often, 1.5, torch.where(seldom, 1 / 1.5, 1.0)).to(share.dtype)
        # a side step that fails takes the step inwards along
        return s._replace(
            side=(s.side * factor[:, 0]).clamp(1e-5, 1),
            nearer=(s.nearer * factor[:, 0] * factor[:, 1]).clamp(1e-6, 0.5),
            hits=torch.where(full, 0, s.hits),
            trials=torch.where(full, 0, s.trials),
        )

    def _asked(self, s: Walk, problem: Problem, draws: Draws) -> Tensor:
        query, walking = s.query, s.phase >= AROUND
        if bool((s.phase == START).any()):
            query = torch.where(rows(s.phase == START, query), started(problem, draws, s.t - 1), query)
        if bool((s.phase == BISECT).any()):
            query = torch.where(rows(s.phase == BISECT, query), cut(s.way, problem), query)
        if bool(walking.any()):
            query = torch.where(rows(walking, query), self._proposal(s, problem, draws), query)
        return query

    def _proposal(self, s: Walk, problem: Problem, draws: Draws) -> Tensor:
        x, scale = problem.x, problem.threat.scale
        # in the threat's unit, where the sphere is round
        out = (s.way.point - x) / scale
        aside = directions(problem, draws, torch.full_like(s.side, self.smoothness)) / scale
        along = flat(aside * out).sum(1) / flat(out).square().sum(1).clamp_min(1e-30)
        aside = aside - rows(along, out) * out
        length = torch.linalg.vector_norm(flat(aside), dim=1).clamp_min(1e-30)
        turned = out + rows(s.side * s.way.high / length, aside) * aside
        # back onto the sphere, or nearer; a hair outside, so that rounding makes no point on the sphere the nearest one
        inward = torch.where(s.phase == NEARER, 1 - s.nearer, 1 + 1e-4)
        radius = s.way.high * inward / torch.linalg.vector_norm(flat(turned), dim=1).clamp_min(1e-30)
        return problem.threat.clip(x + rows(radius, turned) * turned * scale)


_EACH, _TRIALS, _TOLERANCE = 4, 10, 0.01
