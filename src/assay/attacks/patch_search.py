"""A search for a patch: where on the image it lies, and what it shows."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Climbed, Option, check_options
from assay.attacks.square import Incumbent, after, begun
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.patch_norm import PatchNorm, in_square, window_totals
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps


class Places(NamedTuple):
    """Which squares `[N, H, W]`, by their upper left corners, are still `open`, and what they promise.

    `gain` is the first-order gain of the objective inside a square, `crowd` how many squares close by were tried.
    """

    gain: Tensor
    open: Tensor
    crowd: Tensor


class Searching(NamedTuple):
    """The next point, the best one so far, the places, and the pixels (bool `[N, H, W]`) of the square under way."""

    query: Tensor
    held: Incumbent
    places: Places | None
    square: Tensor
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class PatchSearch:
    """PGD on the values of one square, at one place after the other: `places` places of `inner` looks each.

    The gradient at the image says what a square can gain to first order, its values going to the edges of the box. The
    place that promises most comes first; a place less than half a side from one that was tried comes after all that
    have fewer such neighbours, so that the first places spread over the image. Each begins at random values and goes
    `step_size` of the box along the signs of the gradient (2.5 / `inner` by default). With as many `places` as the
    image has, all of them are tried ((29 - p)^2 for a patch of p on 28 x 28 pixels), and no more is spent.
    Against double masking it climbs the mean of the one-mask answers that do not hide the square and are not lost yet:
    the attack that knows this defence. Norm: patch.
    Access: gradient. Cost: 1 + `places` * `inner` gradient looks and 1 forward.
    """

    places: Annotated[int, Option("Places that are tried, the most promising first.", "places")] = 10
    inner: Annotated[int, Option("Looks at each place.", "looks")] = 20
    step_size: Annotated[float | None, Option("Length of a step; without it 2.5 / inner.", "share of the box")] = None
    objective: Climbed = margin

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def steps(self) -> int:
        """Looks before the final one."""
        return 1 + self.places * self.inner

    @property
    def step_length(self) -> float:
        """The length of a step, in shares of the box."""
        return 2.5 / self.inner if self.step_size is None else self.step_size

    def init(self, problem: Problem, draws: Draws) -> Searching:
        """Ask about the image, or the given start. Raises `BadInput` for a budget that is no patch."""
        if problem.threat.norm.name != "patch":
            raise BadInput(f"patch-search works in the norm patch, not in {problem.threat.norm.name}.")
        first = start_of(problem)
        return Searching(first, begun(first, problem), None, torch.zeros_like(problem.x[:, 0], dtype=torch.bool))

    def step(self, state: Searching, seen: Observation, problem: Problem, draws: Draws) -> Searching:
        """Keep the last point where it served; go on at this place or at the next one."""
        held = after(state.held, seen)
        grad = gradient_of(seen)
        side = PatchNorm(tuple(problem.x.shape[1:])).sides(_column(budget_of(problem)), problem.x)
        places = _places(grad, side, problem) if state.places is None else state.places
        if held.t == self.steps:
            return Searching(held.point, held, places, state.square)
        if (held.t - 1) % self.inner:
            z = state.query + self.step_length * _span(problem) * grad.sign()
            square, done = state.square, state.done
        else:
            places, square, done = _next(places, side)
            z = _anything(problem, draws)
        z = problem.threat.inside(torch.where(square[:, None], problem.threat.clip(z), problem.x), problem.x)
        # where all places were tried, the best point is all there is to ask about
        finished = torch.as_tensor(done, device=z.device).expand(len(z)).view(-1, 1, 1, 1)
        query = torch.where(finished, held.point, z)
        return Searching(query, held._replace(query=query), places, square, done)


def _column(eps: float | Tensor) -> float | Tensor:
    return eps[:, None] if isinstance(eps, Tensor) else eps


def _span(problem: Problem) -> float | Tensor:
    # what a value can change by: the box, or a unit of the budget where there is none
    low, high = problem.threat.box
    return high - low if math.isfinite(high - low) else problem.threat.scale


def _anything(problem: Problem, draws: Draws) -> Tensor:
    # any values of the box, or of a unit around the image
    u, x = draws.uniform("values", *problem.x.shape[1:]).to(problem.x.dtype), problem.x
    low, high = problem.threat.box
    return low + (high - low) * u if math.isfinite(high - low) else x + problem.threat.scale * (2 * u - 1)


def _places(grad: Tensor, side: Tensor, problem: Problem) -> Places:
    x, (low, high) = problem.x, problem.threat.box
    bounded = math.isfinite(high - low)
    room = torch.where(grad > 0, high - x, x - low) if bounded else torch.ones_like(x) * problem.threat.scale
    gain = window_totals((problem.threat.only(grad).abs() * room).sum(1), side)
    # without a budget there is no place
    some = gain.isfinite() & (side > 0)[:, None, None]
    return Places(gain, some, torch.zeros_like(gain, dtype=torch.int64))


def _next(places: Places, side: Tensor) -> tuple[Places, Tensor, Tensor]:
    """Return the places without the next one, its square, and which rows (bool `[N]`) have none left."""
    done = ~places.open.flatten(1).any(1)
    crowd = torch.where(places.open, places.crowd, torch.iinfo(torch.int64).max)
    least = crowd.flatten(1).amin(1)[:, None, None]
    corner = torch.where(places.open & (crowd == least), places.gain, -torch.inf).flatten(1).argmax(1)
    height, width = places.gain.shape[1:]
    row, column = (
        torch.arange(length, device=side.device) - first[:, None]
        for first, length in ((corner // width, height), (corner % width, width))
    )
    chosen = (row == 0)[:, :, None] & (column == 0)[:, None]
    near = torch.maximum(row.abs()[:, :, None], column.abs()[:, None]) * 2 < side[:, None, None]
    square = in_square(corner, side, places.gain)
    return Places(places.gain, places.open & ~chosen, places.crowd + near), square, done
