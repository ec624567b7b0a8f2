"""Attention and differential evolution: the one-pixel attack with squares, in the salient places alone.

Our reading of the attack of that name in the related work of Sen et al. 2023 (reference 25).
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.attacks.gradient import gradient_of
from assay.attacks.one_pixel import Candidates, Generations, Population, born, evolved, painted, scattered
from assay.attacks.options import Climbed, Option, check_options
from assay.core.draws import Draws
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps

# squares grow with the image: 1 pixel of 28, 8 of 224 and more
_SIDES, _LARGEST = 28, 8


class Saliency(enum.Enum):
    """How it is found out which places matter."""

    OCCLUSION = "occlusion"
    """By covering a window of the image at a time."""
    GRADIENT = "gradient"
    """By the size of one gradient."""


class Attending(NamedTuple):
    """What looks at the image and its covered copies said, `[N, looks]`; then the salient cells and the evolution."""

    query: Tensor
    losses: Tensor
    cells: Tensor | None = None
    evolution: Population | None = None
    done: bool = False


@dataclasses.dataclass(frozen=True)
class AttentionDE:
    """Differential evolution, as `one-pixel`, of the place and colour of squares in the `share` of salient cells.

    Our reading of Sen et al.'s reference 25, whose text could not be had.
    The image is cut into cells of `block` x `block` pixels (without it 1 for 28 pixels of the shorter side, at most 8).
    How salient a cell is says the objective where a window around it is covered with the image's mean colour, `windows`
    times `windows` of them, or with `saliency` gradient the sum of the absolute gradient at the image; both smoothed
    over neighbours. A square covers a cell, in one colour; a budget of `eps` values pays for
    eps / (C block^2) squares, the last one in part. L0.
    Cost: 1 + `windows`^2 looks (or 1 with its gradient), and at most `population` * (`generations` + 1) forwards.
    """

    population: Candidates = 400
    generations: Generations = 100
    share: Annotated[float, Option("The cells that may change.", "share of the image", most=1, above=True)] = 0.1
    block: Annotated[int | None, Option("Side of a square; without it the image's size decides.", "pixels")] = None
    saliency: Annotated[Saliency, Option("How it is found out which places matter.")] = Saliency.OCCLUSION
    windows: Annotated[int, Option("Windows across, each of which is covered once.", "windows")] = 7
    objective: Climbed = margin

    keeps: ClassVar[Keeps] = Keeps.FIRST

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def access(self) -> Access:
        """Scores; a gradient where that says what is salient."""
        return Access.GRADIENT if self.saliency is Saliency.GRADIENT else Access.SCORES

    @property
    def gradient_looks(self) -> int:
        """The first looks that need a gradient."""
        return int(self.saliency is Saliency.GRADIENT)

    @property
    def steps(self) -> int:
        """Queries before the last one."""
        return self._attending + self.population * (self.generations + 1) - 1

    @property
    def _attending(self) -> int:
        return 1 if self.saliency is Saliency.GRADIENT else 1 + self.windows**2

    def init(self, problem: Problem, draws: Draws) -> Attending:
        """Ask about the image."""
        return Attending(problem.x, problem.x.new_zeros(len(problem.x), 0))

    def step(self, state: Attending, seen: Observation, problem: Problem, draws: Draws) -> Attending:
        """Look on, choose the cells, or evolve."""
        if state.cells is not None and state.evolution is not None:
            return self._placed(evolved(state.evolution, seen, problem, draws), state.losses, state.cells, problem)
        losses = torch.cat([state.losses, seen.loss[:, None]], 1)
        if losses.shape[1] < self._attending:
            return Attending(self._covered(losses.shape[1] - 1, problem), losses)
        if self.saliency is Saliency.GRADIENT:
            heat = (gradient_of(seen) * problem.threat.scale).abs().sum(1)
        else:
            heat = losses[:, 1:].reshape(-1, 1, self.windows, self.windows)
            heat = F.interpolate(heat, problem.x.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        members = scattered(self.population, self._side(problem), problem, draws)
        return self._placed(born(members), losses, self._salient(heat, problem), problem)

    def _side(self, problem: Problem) -> int:
        shorter = min(problem.x.shape[-2:])
        return min(max(1, min(_LARGEST, shorter // _SIDES)) if self.block is None else self.block, shorter)

    def _covered(self, window: int, problem: Problem) -> Tensor:
        x = problem.x
        at = [
            (torch.arange(side, device=x.device) * self.windows // side) == place
            for side, place in zip(x.shape[-2:], divmod(window, self.windows), strict=True)
        ]
        # an image of fewer pixels than windows has some without any
        return torch.where(at[0][:, None] & at[1], x.mean((2, 3), keepdim=True), x)

    def _salient(self, heat: Tensor, problem: Problem) -> Tensor:
        # bool [N, h, w]: the hottest cells, of those in which something may change
        side, mask = self._side(problem), problem.threat.mask
        cells = F.avg_pool2d(heat[:, None], side, ceil_mode=True)
        cells = F.avg_pool2d(cells, 3, 1, 1, count_include_pad=False)[:, 0]
        usable = torch.ones_like(cells, dtype=torch.bool)
        if mask is not None:
            free = mask.over(problem.x).any(1, keepdim=True).to(heat.dtype)
            usable = F.max_pool2d(free, side, ceil_mode=True)[:, 0] > 0
        rank = torch.where(usable, cells, -torch.inf).flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1)
        count = (self.share * usable.flatten(1).sum(1)).round().clamp_min(1)
        return (rank < count[:, None]).view_as(usable)

    def _placed(self, state: Population, losses: Tensor, cells: Tensor, problem: Problem) -> Attending:
        side = self._side(problem)
        limit = torch.tensor(problem.x.shape[-2:], device=cells.device) - side
        corner = (_chosen(state.child[..., :2], cells) * side).minimum(limit)
        return Attending(painted(state.child, corner, side, problem), losses, cells, state)


def _chosen(place: Tensor, cells: Tensor) -> Tensor:
    """Return the cells (row, column) `[N, K, 2]` of `cells` (bool `[N, h, w]`) that shares `place` `[N, K, 2]` mean.

    The first share counts cells row by row, so that shares spread evenly are cells chosen evenly; the second counts
    those of that row.
    """
    per_row = cells.sum(2)
    through = per_row.cumsum(1)
    total = through[:, -1:]
    wanted = (place[..., 0] * total).long().minimum(total - 1)
    row = torch.searchsorted(through, wanted, right=True)
    count = per_row.gather(1, row)
    rank = (place[..., 1] * count).long().minimum(count - 1)
    # of each row, its columns with the chosen ones first
    order = cells.int().argsort(dim=2, descending=True, stable=True)
    n = torch.arange(len(cells), device=cells.device)[:, None]
    return torch.stack([row, order[n, row, rank]], -1)
