"""Block-grey attacks: one shade of grey is added to every block of an image, the same to all of its channels.

Our reading of the attack of that name in the related work of Sen et al. 2023 (reference 24).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Climbed, Option, Queries, RandomStart, Steps, StepSize, check_options
from assay.attacks.square import FirstWindows, Incumbent, Rescaled, after, begun, share_of
from assay.core.draws import Draws
from assay.core.objective import cross_entropy, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.tensors import rows

Block = Annotated[int, Option("Side of a block.", "pixels")]


class Shades(NamedTuple):
    """The next point, and the shade that each block `[N, h, w]` is changed by, in the threat's unit."""

    query: Tensor
    shade: Tensor
    done: bool = False


@dataclasses.dataclass(frozen=True)
class BlockGrey:
    """Projected gradient descent on one shade of grey per `block` x `block` pixels: z = x + t, |t| <= eps.

    Our reading of Sen et al.'s reference 24, whose text could not be had.
    The gradient by a shade is the sum over its block and over channels. A shade is cut where the first value of its
    block meets the box, so that a change stays one of whole blocks: a block that holds black and white does not change.
    Blocks begin at the upper left corner; those at the other edges may be smaller. Blocks of 1 pixel change Y of YCbCr
    alone. The default step is 2.5 / steps of the budget. Linf.
    Access: gradient. Cost: `steps` gradient looks and 1 forward.
    """

    block: Block = 8
    steps: Steps = 40
    step_size: StepSize = None
    random_start: RandomStart = True
    objective: Climbed = cross_entropy

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def step_length(self) -> float:
        """The length of a step, in budgets."""
        return 2.5 / self.steps if self.step_size is None else self.step_size

    def init(self, problem: Problem, draws: Draws) -> Shades:
        """Begin at the blocks' means of the given start, at random shades, or at the image."""
        x = problem.x
        if problem.start is None and self.random_start:
            height, width = _grid(x, self.block)
            shade = (2 * draws.uniform("start", height, width) - 1).to(x.dtype) * _each(budget_of(problem), x)
        else:
            change = problem.threat.only(start_of(problem) - x) / problem.threat.scale
            free = _free(problem).to(x.dtype)
            shade = _sums(change, self.block) / _sums(free, self.block).clamp_min(1)
        return self._at(shade, problem)

    def step(self, state: Shades, seen: Observation, problem: Problem, draws: Draws) -> Shades:
        """Take one projected step."""
        slope = _sums(problem.threat.only(gradient_of(seen)) * problem.threat.scale, self.block)
        length = _each(self.step_length * budget_of(problem), problem.x)
        return self._at(state.shade + length * slope.sign(), problem)

    def _at(self, shade: Tensor, problem: Problem) -> Shades:
        shade = _allowed(shade, problem, self.block)
        return Shades(_shaded(shade, problem, self.block), shade)


@dataclasses.dataclass(frozen=True)
class BlockGreySearch:
    """Block-grey by random search: windows of blocks are set to plus or minus the budget, and kept where that serves.

    Our reading of Sen et al.'s reference 24, whose text could not be had.
    As Square (Andriushchenko et al. 2020), with windows of whole blocks and one sign for all channels. `p` is the share
    of the image that the first windows cover. Blocks and cuts are those of `BlockGrey`. Linf; scores alone.
    Cost: `queries` forwards, the first and the last look included. Raises `BadInput` for a share outside (0, 1].
    """

    block: Block = 8
    queries: Queries = 5000
    p: FirstWindows = 0.8
    rescale: Rescaled = False
    objective: Climbed = margin

    access: ClassVar[Access] = Access.SCORES
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def steps(self) -> int:
        """Looks before the final one."""
        return self.queries - 1

    def init(self, problem: Problem, draws: Draws) -> Incumbent:
        """Begin at the given start, or at random stripes of blocks."""
        x = problem.x
        if problem.start is not None:
            return begun(problem.start, problem)
        height, width = _grid(x, self.block)
        signs = _signs(draws.uniform("stripes", width), x)[:, None].expand(-1, height, -1)
        shade = _allowed(signs * _each(budget_of(problem), x), problem, self.block)
        return begun(_shaded(shade, problem, self.block), problem)

    def step(self, state: Incumbent, seen: Observation, problem: Problem, draws: Draws) -> Incumbent:
        """Keep the last change where it served; try another, or confirm the best point at the end."""
        here = after(state, seen)
        if here.t == self.steps:
            return here
        share = share_of(self.p, state.t, self.queries if self.rescale else None)
        return here._replace(query=self._changed(here.point, share, problem, draws))

    def _changed(self, point: Tensor, share: float, problem: Problem, draws: Draws) -> Tensor:
        height, width = _grid(problem.x, self.block)
        side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
        u = draws.uniform("window", 3)
        inside = _within(u[:, 0], height, side)[:, :, None] & _within(u[:, 1], width, side)[:, None]
        shade = (_signs(u[:, 2], point)[:, None, None] * _each(budget_of(problem), point)).expand(-1, height, width)
        where = _spread(inside, point, self.block)
        new, turned = (
            torch.where(where, _shaded(_allowed(one, problem, self.block), problem, self.block), point)
            for one in (shade, -shade)
        )
        # a change that changes nothing is turned round: no query is spent on the point already known
        idle = (new == point).flatten(1).all(1)
        return torch.where(rows(idle, new), turned, new)


def _within(u: Tensor, count: int, side: int) -> Tensor:
    # bool [N, count]: so many neighbours, from a place by chance
    first = (u * (count - side + 1)).long().clamp_max(count - side)[:, None]
    at = torch.arange(count, device=u.device)
    return (at >= first) & (at < first + side)


def _signs(u: Tensor, like: Tensor) -> Tensor:
    return torch.where(u < 0.5, -1.0, 1.0).to(like.dtype)


def _each(size: float | Tensor, like: Tensor) -> float | Tensor:
    return rows(size, like[:, 0])


def _grid(x: Tensor, block: int) -> tuple[int, int]:
    # how many blocks there are, down and across
    height, width = x.shape[-2:]
    return -(-height // block), -(-width // block)


def _tiles(value: Tensor, block: int, filling: float) -> Tensor:
    # [N, C, H, W] as [N, h, w, C * block * block], what is beyond the edges filled up
    n, channels, height, width = value.shape
    down, across = _grid(value, block)
    whole = F.pad(value, (0, across * block - width, 0, down * block - height), value=filling)
    return whole.view(n, channels, down, block, across, block).permute(0, 2, 4, 1, 3, 5).flatten(3)


def _sums(value: Tensor, block: int) -> Tensor:
    return _tiles(value, block, 0).sum(3)


def _spread(value: Tensor, like: Tensor, block: int) -> Tensor:
    # from one value per block, [N, h, w], to one per pixel, [N, 1, H, W]
    height, width = like.shape[-2:]
    tall = value.repeat_interleave(block, 1)[:, :height]
    return tall.repeat_interleave(block, 2)[:, None, :, :width]


def _free(problem: Problem) -> Tensor:
    mask = problem.threat.mask
    return torch.ones_like(problem.x, dtype=torch.bool) if mask is None else mask.over(problem.x)


def _allowed(shade: Tensor, problem: Problem, block: int) -> Tensor:
    # inside the budget, and as far as the first value of a block that meets the box
    eps, x, (low, high) = _each(budget_of(problem), problem.x), problem.x, problem.threat.box
    shade = torch.clamp(shade, -eps, eps)  # type: ignore[arg-type]  # both bounds are numbers, or both tensors
    if math.isinf(low) and math.isinf(high):
        return shade
    free, scale = _free(problem), problem.threat.scale
    down = torch.where(free, (low - x) / scale, -torch.inf)
    up = torch.where(free, (high - x) / scale, torch.inf)
    least = _tiles(down, block, -torch.inf).amax(3)
    return shade.maximum(least).minimum(_tiles(up, block, torch.inf).amin(3))


def _shaded(shade: Tensor, problem: Problem, block: int) -> Tensor:
    threat, x = problem.threat, problem.x
    return threat.clip(x + threat.only((_spread(shade, x, block) * threat.scale).expand(x.shape)))
