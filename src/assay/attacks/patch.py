"""Adversarial patches (Brown et al. 2017): where they lie, how they are pasted, and the attack that pastes one.

Here are the parts that need torch alone; training, files and transformations stand in the room `patches`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps

Place = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Room:
    """Where the top left corner of a patch of `height` x `width` may lie in an image of `tall` x `wide` pixels.

    By default anywhere it fits: rows 0 .. tall - height and columns 0 .. wide - width. `published=True` is the range of
    the public notebook behind Sen et al. 2023, 0 .. tall - height - 2: the last two rows and columns are never used.
    `at` is one fixed (row, column). Raises `BadInput` for a patch that does not fit.
    """

    height: int
    width: int
    tall: int
    wide: int
    published: bool = False
    at: Place | None = None

    def __post_init__(self) -> None:
        """Refuse a patch that does not fit, or a place outside."""
        rows, columns = self.tall - self.height, self.wide - self.width
        if rows < 0 or columns < 0:
            raise BadInput(
                f"The patch is {self.height} x {self.width} pixels, the image only {self.tall} x {self.wide}. "
                "Use a smaller one."
            )
        if self.published and min(rows, columns) < 2:
            raise BadInput(
                f"The published offsets leave out the last two rows and columns, and a patch of {self.height} x "
                f"{self.width} has no other in an image of {self.tall} x {self.wide}. Use a smaller patch."
            )
        if self.at is not None and not (0 <= self.at[0] <= rows and 0 <= self.at[1] <= columns):
            raise BadInput(
                f"The patch at row {self.at[0]}, column {self.at[1]} leaves the image; expected rows 0 to {rows} and "
                f"columns 0 to {columns}."
            )

    @property
    def choices(self) -> Place:
        """How many rows and columns there are to choose from."""
        less = 2 if self.published else 0
        return self.tall - self.height + 1 - less, self.wide - self.width + 1 - less

    def random(self, draws: Draws, name: str, *shape: int) -> Tensor:
        """Return places drawn evenly, int64 `[N, *shape, 2]` (row, column)."""
        if self.at is not None:
            return torch.tensor(self.at, device=draws.ids.device).expand(len(draws.ids), *shape, 2)
        choices = torch.tensor(self.choices, device=draws.ids.device)
        # float32 can round u * n up to n
        return (draws.uniform(name, *shape, 2) * choices).long().minimum(choices - 1)

    def grid(self, stride: int) -> list[Place]:
        """Return the places of a grid with `stride` pixels between them, the last row and column always among them."""
        if stride < 1:
            raise BadInput(f"The stride is {stride}, expected 1 pixel or more.")
        rows, columns = (sorted({*range(0, choices, stride), choices - 1}) for choices in self.choices)
        return [(row, column) for row in rows for column in columns] if self.at is None else [self.at]


def paste(images: Tensor, patch: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    """Return new images `[N, C, H, W]` with a patch over each; `images` stay as they are.

    `patch` is `[C, h, w]`, or `[N, C, h, w]` for one per image, in [0, 1]; `mask` `[h, w]` or `[N, h, w]` says how much
    of it covers the image (1 all, 0 nothing); `places` int64 `[N, 2]` are the (row, column) of its top left corner.
    Differentiable with respect to the patch.
    """
    height, width = patch.shape[-2:]
    rows = (places[:, 0, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (places[:, 1, None] + torch.arange(width, device=images.device))[:, None, None, :]
    sample = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    at = (sample, channel, rows, columns)
    cover = (mask if mask.ndim == 3 else mask[None])[:, None]
    patch = patch if patch.ndim == 4 else patch[None]
    return images.index_put(at, images[at] * (1 - cover) + patch * cover)


class Copies(NamedTuple):
    """The images with a patch, after `t` placements have been looked at; `source` draws all of them.

    It is that of the beginning, so that a placement is where its number says, whatever was tried before it.
    """

    query: Tensor
    source: Draws
    t: int = 0
    done: bool = False


@dataclasses.dataclass(frozen=True)
class Pasted:
    """Paste a finished patch over every image. Cost: 1 forward per placement.

    `pixels` `[C, h, w]` in [0, 1] and `mask` `[h, w]` are the patch. Placements are random, numbered from `placement`
    on; `places` of them are tried one after the other, and which of them counts is the search's question. With a
    `stride` they are those of a grid instead, all of them.

    The threat is L0, and counts the values that a patch may cover, c h w each: a budget of several patches lets as many
    copies lie on one image at once, at the places of the placements numbered one after the other. That is how Sen et
    al. 2023 evaluate, because their notebook pastes into the same batch again and again. `published` restricts places
    as it does (see `Room`); `at` fixes the place of them all.
    """

    pixels: Tensor = dataclasses.field(compare=False)
    mask: Tensor = dataclasses.field(compare=False)
    placement: int = 1
    places: int = 1
    stride: int | None = None
    published: bool = False
    at: Place | None = None
    image: Place = (224, 224)

    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.FIRST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what a look reports."""
        return margin

    @property
    def room(self) -> Room:
        """Where the patch may lie."""
        return Room(self.mask.shape[0], self.mask.shape[1], *self.image, self.published, self.at)

    @property
    def steps(self) -> int:
        """Placements before the last one."""
        return (self.places if self.stride is None else len(self.room.grid(self.stride))) - 1

    @property
    def values(self) -> int:
        """How many values of an image one copy may change."""
        return len(self.pixels) * int((self.mask > 0).sum())

    def init(self, problem: Problem, draws: Draws) -> Copies:
        """Paste at the first placement."""
        return Copies(self._pasted(problem, draws, 0), draws)

    def step(self, state: Copies, seen: Observation, problem: Problem, draws: Draws) -> Copies:
        """Paste at the next one."""
        return Copies(self._pasted(problem, state.source, state.t + 1), state.source, state.t + 1)

    def _pasted(self, problem: Problem, draws: Draws, t: int) -> Tensor:
        x = problem.x
        if tuple(x.shape[2:]) != self.image or x.shape[1] != len(self.pixels):
            raise BadInput(
                f"The patch is for images of {_by(len(self.pixels), *self.image)}, these are {_by(*x.shape[1:])}."
            )
        pixels, mask = self.pixels.to(x.device, x.dtype), self.mask.to(x.device, x.dtype)
        if math.isinf(float(torch.as_tensor(problem.threat.eps).max())):
            raise BadInput(f"The budget is infinite; a patch covers {self.values} values, two patches twice as many.")
        room, budget = self.room, torch.as_tensor(problem.threat.eps, device=x.device).expand(len(x))
        copies = (budget / self.values + 1e-6).floor().long()
        pasted = x
        for number in range(int(copies.max()) if len(x) else 0):
            if self.stride is None:
                places = room.random(draws, f"placement {self.placement + t + number}")
            else:
                grid = room.grid(self.stride)
                places = torch.tensor(grid[(t + number) % len(grid)], device=x.device).expand(len(x), 2)
            changed = paste(pasted, pixels, mask, places)
            pasted = torch.where((copies > number)[:, None, None, None], changed, pasted)
        return pasted


def _by(*sizes: int) -> str:
    return " x ".join(map(str, sizes))
