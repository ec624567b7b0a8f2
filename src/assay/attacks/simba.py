"""SimBA: one direction of an orthogonal basis after the other, forth or back."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.options import Climbed, Option, Queries
from assay.attacks.parts.dct import cosines
from assay.core.compose import ByNorm
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.tensors import counts, flat, rows


class Basis(enum.Enum):
    """The directions tried."""

    PIXEL = "pixel"
    """Single values."""
    DCT = "dct"
    """Cosine waves over one channel."""


class Trial(NamedTuple):
    """The best point and its loss; which direction of a row's own `order` is tried next, and whether backwards."""

    query: Tensor
    point: Tensor
    loss: Tensor
    order: Tensor
    at: Tensor
    back: Tensor
    done: bool = False


def simba(
    queries: Queries = 10_000,
    basis: Annotated[Basis, Option("Which directions are tried: single values, or waves.")] = Basis.PIXEL,
    objective: Climbed = margin,
) -> ByNorm:
    """Return SimBA with the step of each norm: in Linf the whole budget, in L2 a tenth of it."""
    return ByNorm(
        (("linf", SimBA(queries, 1.0, basis, objective)), ("l2", SimBA(queries, 0.1, basis, objective))),
    )


@dataclasses.dataclass(frozen=True)
class SimBA:
    """SimBA (Guo et al. 2019): add `step` budgets along a basis direction q, or take them off, if the loss rises.

    x <- x + step q if that is better, else x - step q if that is, else x; projected into ball and box. Each sample goes
    through the basis in a random order of its own, and again when it is through. `dct` tries waves from low
    frequencies to high ones, in a random order among the similar. Scores alone. Cost: at most `queries` forwards, the
    image's own included; at most 2 per direction.
    """

    queries: int = 10_000
    step_size: float = 0.1
    basis: Basis = Basis.PIXEL
    objective: Objective = margin

    access: ClassVar[Access] = Access.SCORES
    keeps: ClassVar[Keeps] = Keeps.FIRST

    @property
    def steps(self) -> int:
        """Queries before the last one."""
        return self.queries - 1

    def init(self, problem: Problem, draws: Draws) -> Trial:
        """Ask about the image, or the given start, for the loss to beat."""
        x = problem.x
        begin = x if problem.start is None else problem.start
        rank = draws.uniform("order", x[0].numel())
        if self.basis is Basis.DCT:
            rank = rank + _coarseness(x).float()
        usable = self._usable(problem)
        rank = rank if usable is None else torch.where(usable, rank, torch.inf)
        order = rank.argsort(dim=1, stable=True)
        unknown = x.new_full((len(x),), -torch.inf)
        return Trial(begin, begin, unknown, order, counts(x, -1), torch.ones_like(counts(x), dtype=torch.bool))

    def step(self, state: Trial, seen: Observation, problem: Problem, draws: Draws) -> Trial:
        """Keep what is better; turn round, or go on to the next direction."""
        # where the box or the ball allows no move, a loss that differs is rounding
        moved = flat(state.query != state.point).any(1) | state.loss.isinf()
        better = (seen.loss > state.loss) & moved
        point = torch.where(rows(better, state.point), state.query, state.point)
        loss = torch.where(better, seen.loss, state.loss)
        # a direction is done with when it helped, or when both ways have been tried
        through = better | state.back
        at, back = state.at + through, ~through
        usable = self._usable(problem)
        count = state.order.shape[1] if usable is None else usable.sum(1)
        which = state.order.gather(1, (at % count)[:, None]).squeeze(1)
        along = problem.threat.steepest(self._direction(problem.x, which))
        length = torch.where(back, -self.step_size, self.step_size).to(point.dtype) * budget_of(problem)
        query = problem.threat.project(point + rows(length, point) * along, problem.x)
        return Trial(query, point, loss, state.order, at, back)

    def _usable(self, problem: Problem) -> Tensor | None:
        # the directions, bool [1 or N, D], that a mask leaves something of; None: all
        mask, x = problem.threat.mask, problem.x
        if mask is None:
            return None
        free = mask.over(x)
        return flat(free if self.basis is Basis.PIXEL else free.flatten(2).any(2)[:, :, None, None].expand(x.shape))

    def _direction(self, x: Tensor, which: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.basis is Basis.PIXEL:
            return torch.zeros_like(flat(x)).scatter(1, which[:, None], 1).view_as(x)
        channel, down, across = which // (height * width), which // width % height, which % width
        wave = cosines(height, height, x).T[down][:, :, None] * cosines(width, width, x).T[across][:, None]
        chosen = torch.arange(x.shape[1], device=x.device) == channel[:, None]
        return chosen[:, :, None, None].to(x.dtype) * wave[:, None]


def _coarseness(x: Tensor) -> Tensor:
    # bands of waves from coarse to fine, an eighth of the longer side wide, `[D]`
    height, width = x.shape[-2:]
    wave = torch.maximum(
        torch.arange(height, device=x.device)[:, None] / height, torch.arange(width, device=x.device) / width
    )
    return (8 * wave).floor().expand(x.shape[1:]).flatten()
