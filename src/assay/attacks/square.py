"""Square attack: random search with square changes, on scores alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.options import Climbed, Option, Queries, check_options
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.tensors import flat, rows

# after so many changes, of 10,000, the share of the image that a change covers is halved (Andriushchenko et al. 2020)
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


FirstWindows = Annotated[
    float,
    Option(
        "The share of the image that the first windows cover.", "share of the image", most=1, above=True,
        expected="the share of the image that a window covers, above 0 and up to 1",
    ),
]  # fmt: skip
Rescaled = Annotated[bool, Option("Whether windows shrink by the share of the queries, not by their number.")]


class Incumbent(NamedTuple):
    """The next point, the best one so far with its objective and verdict, and how many changes have been tried."""

    query: Tensor
    point: Tensor
    loss: Tensor
    won: Tensor
    t: int = 0
    done: bool = False


@dataclasses.dataclass(frozen=True)
class Square:
    """Square attack (Andriushchenko et al. 2020): a random change is kept where the objective rises or the goal falls.

    A change in Linf sets one square window to the image plus or minus the budget, one sign per channel; where that
    would change nothing, the signs are turned round, so that no query is spent on the point already known. In L2 and
    L1 it empties one window and gives what it held, with all budget still unspent, to a bump in another. `p` is the
    share of the image that the first windows cover; it falls after fixed numbers of changes, or, with `rescale`, after
    fixed shares of `queries`. Every sample has windows of its own.
    Access: scores. Cost: `queries` forwards, the first and the last look included; the last one confirms the best
    point. Raises `BadInput` for a share outside (0, 1], and for an endless budget.
    """

    queries: Queries = 5000
    p: FirstWindows = 0.8
    rescale: Rescaled = False
    objective: Climbed = margin
    keeps: Keeps = Keeps.FIRST

    access: ClassVar[Access] = Access.SCORES

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def steps(self) -> int:
        """Looks before the final one."""
        return self.queries - 1

    def init(self, problem: Problem, draws: Draws) -> Incumbent:
        """Begin at the given start, or at random stripes (Linf) or bumps (L2, L1) of the whole budget."""
        return begun(_family(problem).begin(problem, draws) if problem.start is None else problem.start, problem)

    def step(self, state: Incumbent, seen: Observation, problem: Problem, draws: Draws) -> Incumbent:
        """Keep the last change where it served; try another, or confirm the best point at the end."""
        here = after(state, seen)
        if here.t == self.steps:
            return here
        return here._replace(
            query=_family(problem).change(
                problem, here.point, share_of(self.p, state.t, self.queries if self.rescale else None), draws
            )
        )


def begun(first: Tensor, problem: Problem) -> Incumbent:
    """Return the state that asks about `first`, before anything is known."""
    x = problem.x
    nothing = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    return Incumbent(first, x, x.new_full((len(x),), -torch.inf), nothing)


def after(state: Incumbent, seen: Observation) -> Incumbent:
    """Return the state in which the last change is kept where it served; it asks about the best point."""
    higher = seen.loss > state.loss
    served = torch.where(state.won, higher & seen.reached, higher | seen.reached)
    point = torch.where(rows(served, state.query), state.query, state.point)
    return Incumbent(point, point, torch.where(served, seen.loss, state.loss), state.won | seen.reached, state.t + 1)


def share_of(p: float, t: int, among: int | None = None) -> float:
    """Return the share of the image that a window covers after `t` changes.

    It falls after shares of `among` changes, where that is given, and else after fixed numbers.
    """
    changes = t if among is None else t * 10_000 / among
    return p * 0.5 ** sum(changes > limit for limit in HALVINGS)


class _Family(NamedTuple):
    # the paper has one way to begin and to change for Linf, and another for the norms that add up
    begin: Callable[[Problem, Draws], Tensor]
    change: Callable[[Problem, Tensor, float, Draws], Tensor]


def _family(problem: Problem) -> _Family:
    name = problem.threat.norm.name
    if name not in _FAMILIES:
        raise BadInput(f"Square attacks in {', '.join(_FAMILIES)}, not in {name}.")
    return _FAMILIES[name]


class _Frame(NamedTuple):
    # where windows lie, in pixels
    top: int
    left: int
    height: int
    width: int


def _frame(problem: Problem) -> _Frame:
    # the image, or what a mask spans that all images share: masks of their own must not change the size of a window,
    # or a sample would feel its neighbours
    x, mask = problem.x, problem.threat.mask
    if mask is None or mask.own is not None:
        return _Frame(0, 0, *x.shape[2:])
    (top, left), (bottom, right) = (edge[0].tolist() for edge in mask.bounds(x))
    return _Frame(top, left, bottom - top + 1, right - left + 1)


def _side(problem: Problem, share: float) -> int:
    _, _, height, width = _frame(problem)
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


def _corner(u: Tensor, problem: Problem, side: int) -> tuple[Tensor, Tensor]:
    # u [N, 2] in [0, 1): top and left edge of a window anywhere in the frame; one that meets the row's own mask
    top, left, height, width = _frame(problem)
    low = torch.tensor([[top, left]], device=u.device)
    high = low + torch.tensor([height - side, width - side], device=u.device)
    mask = problem.threat.mask
    if mask is not None and mask.own is not None:
        first, last = mask.bounds(problem.x)
        low, high = (first - side + 1).clamp_min(0).minimum(high), last.minimum(high)
    room = high - low + 1
    down, across = (low + (u * room).long().minimum(room - 1)).unbind(1)
    return down, across


def _signs(u: Tensor, like: Tensor) -> Tensor:
    return torch.where(u < 0.5, -1.0, 1.0).to(like.dtype)


def _stripes(problem: Problem, draws: Draws) -> Tensor:
    channels, _, width = problem.x.shape[1:]
    return _shifted(problem, _signs(draws.uniform("stripes", channels, 1, width), problem.x))


def _shifted(problem: Problem, signs: Tensor) -> Tensor:
    threat = problem.threat
    return threat.clip(problem.x + threat.only(rows(budget_of(problem), problem.x) * threat.scale * signs))


def _square(problem: Problem, point: Tensor, share: float, draws: Draws) -> Tensor:
    # only the window is computed: most windows are a few values wide
    channels, side = point.shape[1], _side(problem, share)
    u = draws.uniform("square", 2 + channels)
    places = _window(u[:, :2], problem, side)
    image, held = (whole.flatten(2).gather(2, places) for whole in (problem.x, point))
    signs = _signs(u[:, 2:], point)[..., None]
    scale = problem.threat.scale
    scale = scale.view(-1, 1) if isinstance(scale, Tensor) else scale
    both = rows(budget_of(problem), image) * scale * torch.stack([signs, -signs])
    new, turned = problem.threat.clip(image + _allowed(both, problem, places))
    idle = flat(new - held).abs().amax(1) == 0
    new = torch.where(rows(idle, new), turned, new)
    return point.flatten(2).scatter(2, places, new).view_as(point)


def _allowed(change: Tensor, problem: Problem, places: Tensor) -> Tensor:
    # of the changes `[..., N, C, P]` to the values at `places`, those that a mask lets be
    mask = problem.threat.mask
    if mask is None:
        return change
    return change * mask.over(problem.x).flatten(2).gather(2, places)


class _Power(NamedTuple):
    # of the norm, and of how fast a bump falls off from its middle
    norm: int
    fall: int


_POWERS = {"l2": _Power(2, 2), "l1": _Power(1, 4)}


def _power(problem: Problem) -> _Power:
    return _POWERS[problem.threat.norm.name]


def _mass(u: Tensor, power: _Power) -> Tensor:
    return u.abs().pow(power.norm).sum(-1, keepdim=True)


def _scaled(u: Tensor, mass: Tensor, power: _Power) -> Tensor:
    # u with another mass; nothing stays nothing
    return u * (mass / _mass(u, power).clamp_min(1e-30)).pow(1 / power.norm)


def _pyramid(height: int, width: int, fall: int) -> Tensor:
    # nested squares around the middle, the k-th of them 1 / k^fall higher than what is outside
    layers = max(height, width) // 2 + 1
    heights = torch.arange(1, layers + 1, dtype=torch.float64).pow(-fall).flip(0).cumsum(0).flip(0)
    down = (torch.arange(height) - height // 2).abs()
    across = (torch.arange(width) - width // 2).abs()
    return heights[torch.maximum(down[:, None], across)]


def _bumps(side: int, power: _Power, like: Tensor) -> Tensor:
    # [2, side, side] of mass 1: a positive pyramid over a negative one, and the same side by side
    upper = _pyramid(side // 2, side, power.fall) if side > 1 else torch.zeros(0, 1, dtype=torch.float64)
    bump = torch.cat([upper, -_pyramid(side - side // 2, side, power.fall)])
    bump = _scaled(bump.flatten(), torch.ones(1), power).view(side, side)
    return torch.stack([bump, bump.T]).to(like)


def _tiles(problem: Problem, draws: Draws) -> Tensor:
    # about five by five bumps, each with its own sign per channel and its own orientation
    x, power = problem.x, _power(problem)
    above, before, height, width = _frame(problem)
    channels = x.shape[1]
    side = max(1, min(height, width) // 5)
    down, across = height // side, width // side
    u = draws.uniform("tiles", down * across, channels + 1)
    turned = (u[..., 0] < 0.5).long()
    # [N, tiles, C, side, side], then the tiles to their places
    bumps = _bumps(side, power, x)[turned][:, :, None] * _signs(u[..., 1:], x)[..., None, None]
    bumps = bumps.view(len(x), down, across, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    whole = torch.zeros_like(x)
    top, left = above + (height - side * down) // 2, before + (width - side * across) // 2
    placed = bumps.reshape(len(x), channels, side * down, side * across)
    whole[:, :, top : top + side * down, left : left + side * across] = placed
    return _added(problem, _scaled(flat(problem.threat.only(whole)), _budget(problem), power).view_as(x))


def _budget(problem: Problem) -> Tensor:
    # the whole budget as a mass, [N, 1] or [1]
    eps = torch.as_tensor(budget_of(problem), dtype=problem.x.dtype, device=problem.x.device)
    return eps.pow(_power(problem).norm).view(-1, 1)


def _added(problem: Problem, u: Tensor) -> Tensor:
    return problem.threat.project(problem.x + u * problem.threat.scale, problem.x)


def _bump(problem: Problem, point: Tensor, share: float, draws: Draws) -> Tensor:
    x, power = problem.x, _power(problem)
    channels, (height, width) = x.shape[1], _frame(problem)[2:]
    # odd, so that a bump has a middle, and at least three wide
    side = min(max(_side(problem, share), 3) // 2 * 2 + 1, height, width)
    u = draws.uniform("bump", 5 + channels)
    to, source = (_window(u[:, i : i + 2], problem, side) for i in (0, 2))
    change = ((point - x) / problem.threat.scale).flatten(2)
    unspent = (_budget(problem) - _mass(flat(change), power)).clamp_min(0)[..., None]
    held = change.gather(2, to)
    rest = change.scatter(2, to, 0)
    free = _channels(problem)
    mass = unspent / free + _mass(held, power) + _mass(rest.gather(2, source), power)
    bump = _bumps(side, power, x).flatten(1)[(u[:, 4] < 0.5).long()][:, None] * _signs(u[:, 5:], x)[..., None]
    bump = bump + _scaled(held, torch.ones_like(mass), power)
    # in L1 the projection takes back what the channels of one window spend too much (as the authors' code does)
    spent = _scaled(_allowed(bump, problem, to), mass * (free if power.norm == 1 else 1), power)
    return _added(problem, rest.scatter(2, source, 0).scatter(2, to, spent).view_as(x))


def _channels(problem: Problem) -> int | Tensor:
    # how many may change: a number, or [N, 1, 1]
    mask = problem.threat.mask
    if mask is None:
        return problem.x.shape[1]
    return mask.over(problem.x).flatten(2).any(2).sum(1)[:, None, None]


def _window(u: Tensor, problem: Problem, side: int) -> Tensor:
    # the places of a window's values in a channel, [N, C, side * side]
    width = problem.x.shape[3]
    top, left = _corner(u, problem, side)
    reach = torch.arange(side, device=u.device)
    places = (top * width + left)[:, None] + (reach[:, None] * width + reach).flatten()
    return places[:, None].expand(-1, problem.x.shape[1], -1)


_FAMILIES = {"linf": _Family(_stripes, _square), "l2": _Family(_tiles, _bump), "l1": _Family(_tiles, _bump)}
