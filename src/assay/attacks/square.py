"""Square: random search with square-shaped changes."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import budget_of
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import flat, rows

# the share of the image that changes at once is halved after so many of 10,000 queries
_HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

# L2 and L1 keep what they spend where it was: the spending adds up as powers of the change
_POWER = {"l2": 2.0, "l1": 1.0}


class Proposal(NamedTuple):
    """The proposed image; the best one so far with its loss, and what share of the image changes next."""

    query: Tensor
    point: Tensor
    loss: Tensor
    t: int
    done: bool = False


@dataclasses.dataclass(frozen=True)
class Square:
    """Square attack (Andriushchenko et al. 2020): change a random square, keep what does not lower the loss.

    Linf: vertical stripes of +-eps at first, then squares of one random sign per channel. L2 and L1: bumps in a grid at
    first; then the change of one window, with a new bump on top, takes over what a second window spent. A
    square covers a share of the image, `share` at first, halved nine times on a schedule of 10,000 queries, which
    `rescale` stretches over `queries`. Scores alone. Cost: at most `queries` forwards, the first point included.
    """

    queries: int = 5000
    share: float = 0.8
    rescale: bool = False
    objective: Objective = margin

    access: ClassVar[Access] = Access.SCORES
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise BadInput(f"share is {self.share}, expected a share of the image above 0, at most 1.")

    @property
    def steps(self) -> int:
        """Queries before the last one."""
        return self.queries - 1

    def init(self, problem: Problem, draws: Draws) -> Proposal:
        """Begin with stripes, or with a grid of bumps."""
        power = _POWER.get(problem.threat.norm.name)
        first = _stripes(problem, draws) if power is None else _bumps(problem, draws, power)
        return Proposal(first, first, first.new_full((len(first),), -torch.inf), 0)

    def step(self, state: Proposal, seen: Seen, problem: Problem, draws: Draws) -> Proposal:
        """Keep the better point and propose a change of it."""
        better = (seen.loss > state.loss) | seen.reached
        point = torch.where(rows(better, state.point), state.query, state.point)
        t = state.t + 1
        at = t * 10_000 // self.queries if self.rescale else t
        share = self.share * 0.5 ** sum(at > bound for bound in _HALVED)
        power = _POWER.get(problem.threat.norm.name)
        height, width = problem.x.shape[-2:]
        side = round((share * height * width) ** 0.5)
        if power is None:
            query = _square(problem, draws, point, max(1, min(side, height, width)))
        else:
            side = max(side, 3)
            query = _exchanged(problem, draws, point, min(side + (side + 1) % 2, height, width), power)
        return Proposal(query, point, torch.where(better, seen.loss, state.loss), t)


def _signs(draws: Draws, name: str, like: Tensor, *shape: int) -> Tensor:
    return (draws.uniform(name, *shape) < 0.5).to(like.dtype) * 2 - 1


def _stripes(problem: Problem, draws: Draws) -> Tensor:
    x = problem.x
    signs = _signs(draws, "stripes", x, x.shape[1], 1, x.shape[3])
    return problem.threat.project(x + rows(budget_of(problem), x) * signs * problem.threat.scale, x)


def _square(problem: Problem, draws: Draws, point: Tensor, side: int) -> Tensor:
    x = problem.x
    window = _window(x, draws, "square", side)
    change = (
        rows(budget_of(problem), x) * _signs(draws, "sign", x, x.shape[1], 1, 1) * problem.threat.scale
    ).expand_as(x)
    moved = point.clone()
    moved[window] = x[window] + change[window]
    return problem.threat.project(moved, x)


Window = tuple[Tensor, Tensor, Tensor, Tensor]


def _window(x: Tensor, draws: Draws, name: str, side: int) -> Window:
    """Return an index of `[N, C, side, side]` values, at a place of its own for each row."""
    height, width = x.shape[-2:]
    room = torch.tensor([height - side + 1, width - side + 1], device=x.device)
    # float32 can round u * n up to n
    corner = (draws.uniform(name, 2) * room).long().minimum(room - 1)
    span = torch.arange(side, device=x.device)
    sample = torch.arange(len(x), device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    down = (corner[:, 0, None] + span)[:, None, :, None]
    across = (corner[:, 1, None] + span)[:, None, None, :]
    return sample, channel, down, across


def _bump(side: int, like: Tensor) -> Tensor:
    """Return two opposite pyramids side by side, `[side, side]`: heights grow towards the middle of each half."""
    bump = like.new_zeros(side, side)
    half = side // 2
    for begin, end, sign in ((0, half, 1.0), (half, side, -1.0)):
        tall = end - begin
        for ring in range(max(tall, side) // 2 + 1):
            # rings in towards the middle, each higher than the last
            weight = 1 / (max(tall, side) // 2 + 1 - ring) ** 2
            top, left = min(ring, (tall - 1) // 2) if tall else 0, min(ring, (side - 1) // 2)
            bump[begin + top : end - top, left : side - left] += sign * weight
    return bump


def _turned(side: int, draws: Draws, name: str, like: Tensor) -> Tensor:
    # upright or on its side, `[N, 1, side, side]`
    bump = _bump(side, like)
    upright = draws.uniform(name, 1, 1, 1) < 0.5
    return torch.where(upright, bump, bump.T)


def _bumps(problem: Problem, draws: Draws, power: float) -> Tensor:
    x = problem.x
    height, width = x.shape[-2:]
    side = max(1, min(height, width) // 5)
    down, across = -(-height // side), -(-width // side)
    signs = _signs(draws, "bumps", x, x.shape[1], down, across)
    bump = _turned(side, draws, "turn", x)
    tiled = bump.repeat(1, 1, down, across) * signs.repeat_interleave(side, 2).repeat_interleave(side, 3)
    return _of_full_size(problem, tiled[..., :height, :width], power)


def _of_full_size(problem: Problem, change: Tensor, power: float) -> Tensor:
    # `change` in the threat's unit, stretched or shrunk to the whole budget
    size = _spent(flat(change), power, 1)[:, None, None, None] ** (1 / power)
    stretched = rows(budget_of(problem), change) * change / size.clamp_min(1e-12)
    return problem.threat.project(problem.x + stretched * problem.threat.scale, problem.x)


def _exchanged(problem: Problem, draws: Draws, point: Tensor, side: int, power: float) -> Tensor:
    x, threat = problem.x, problem.threat
    change = (point - x) / threat.scale
    one, two = (_window(x, draws, name, side) for name in ("one", "two"))
    covered = torch.zeros_like(x, dtype=torch.bool)
    covered[one] = True
    covered[two] = True
    held = _spent(torch.where(covered, change, torch.zeros_like(change)).flatten(2), power, 2)
    unspent = rows(budget_of(problem), x) ** power - _spent(change.flatten(1), power, 1)[:, None, None, None]
    held = held[:, :, None, None] + torch.as_tensor(unspent).clamp_min(0) / x.shape[1]
    bump = _turned(side, draws, "turn", x) * _signs(draws, "sign", x, x.shape[1], 1, 1)
    new = _normed(bump, power) + _normed(change[one], power)
    changed = change.clone()
    changed[two] = 0
    changed[one] = _normed(new, power) * held ** (1 / power)
    return _of_full_size(problem, changed, power)


def _spent(change: Tensor, power: float, dim: int) -> Tensor:
    return change.abs().pow(power).sum(dim)


def _normed(change: Tensor, power: float) -> Tensor:
    # every channel of size 1
    size = _spent(change.flatten(2), power, 2) ** (1 / power)
    return change / size[:, :, None, None].clamp_min(1e-12)
