"""The size of a patch: the side of the smallest square that holds every changed pixel of an image."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.masks import only_free


class PatchNorm:
    """Counts pixels along a side: all channels of all pixels inside one square may take any value.

    The other norms measure vectors `[N, D]`; this one must know the `shape` (C, H, W) of the images that they are,
    which `Threat` tells it. Budgets are whole numbers. A square is axis-aligned and lies inside the image; one that is
    taller than the image is as tall as the image.
    """

    name = "patch"
    boxed = True
    first_step = 1.0

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.shape = shape

    def size(self, d: Tensor) -> Tensor:
        """Return the side `[N]` of the smallest square around what changed, 0 where nothing did."""
        # what is no number has changed too
        changed = (self._images(d) != 0).any(1)
        return torch.maximum(_extent(changed.any(2)), _extent(changed.any(1))).to(d.dtype)

    def dual(self, g: Tensor) -> Tensor:
        """Raise `BadInput`: a change inside a square can be of any height."""
        raise BadInput(
            "The size of a patch has no dual norm and no steepest direction: values inside it can change by any "
            "height. Use an attack that works in this norm, such as patch-search."
        )

    def steepest(self, g: Tensor) -> Tensor:
        """Raise `BadInput`, as `dual`."""
        return self.dual(g)

    def step(self, g: Tensor, room: Tensor, length: float | Tensor, free: Tensor | None = None) -> Tensor:
        """Raise `BadInput`, as `dual`."""
        return self.dual(g)

    def project(self, d: Tensor, eps: float | Tensor, room: Tensor) -> Tensor:
        """Return what the square with the largest total change, inside the room, leaves of a perturbation."""
        # one that fits is left alone: rounding must not make a square of equal total its better
        side = self.sides(eps, d)
        height = self._images(torch.minimum(d.abs(), room)).sum(1)
        inside = in_square(window_totals(height, side).flatten(1).argmax(1), side, height)
        inside |= (self.size(d) <= side)[:, None, None]
        return torch.where(inside[:, None], self._images(d), 0).flatten(1)

    def cheapest_move(self, need: Tensor, weight: Tensor, room: Tensor) -> Tensor:
        """Raise `BadInput`, as `dual`."""
        return self.dual(weight)

    def size_needed(self, need: Tensor, g: Tensor, room: Tensor) -> Tensor:
        """Return the smallest side `[N]` of a square in which changes within the room gain `need` along `g`."""
        gains = self._images(g.abs() * room).sum(1)
        most = max(self.shape[1:])
        found = torch.full_like(need, float(most))
        for side in range(most, 0, -1):
            totals = window_totals(gains, torch.full_like(need, side, dtype=torch.int64))
            found = torch.where(totals.flatten(1).amax(1) >= need, float(side), found)
        return found

    def scaled(self, eps: Tensor, factor: float) -> Tensor:
        """Return sides about `factor` times as long; other ones even where that is less than a pixel."""
        return scaled_whole(eps, factor)

    def between(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the side half way between two; `low` where there is none between them."""
        return ((low + high) / 2).floor()

    def random(self, draws: Draws, features: int, free: Tensor | None = None) -> Tensor:
        """Return changes of every value, of which a projection keeps a square."""
        return only_free(2 * draws.uniform("start", features) - 1, free)

    def _images(self, d: Tensor) -> Tensor:
        if len(self.shape) != 3:
            raise BadInput(f"A patch is a square of an image [C, H, W], and the inputs are {list(self.shape)}.")
        return d.view(len(d), *self.shape)

    def sides(self, eps: float | Tensor, like: Tensor) -> Tensor:
        """Return the sides (int64 `[N]`) of budgets, a number or `[N, 1]`: at most that of the image."""
        side = torch.as_tensor(eps, dtype=torch.float64, device=like.device).expand(len(like), 1).squeeze(1)
        # float32 may hold a whole number a hair below itself
        return (side + 1e-6).clamp_max(max(self.shape[1:])).long()


PATCH = PatchNorm()


def scaled_whole(eps: Tensor, factor: float) -> Tensor:
    """Return whole numbers about `factor` times as large as `eps`, and never the same."""
    whole = (eps * factor).floor()
    return torch.maximum(whole, eps + 1) if factor > 1 else torch.minimum(whole, eps - 1).clamp_min(0)


def window_totals(value: Tensor, side: Tensor) -> Tensor:
    """Return the sums of maps `[N, H, W]` over the squares of `side` (int64 `[N]`) whose upper left corner is a pixel.

    float64 `[N, H, W]`, -inf where the square does not fit. A side longer than the image's is as long.
    """
    _, height, width = value.shape
    # an integral image; in double precision its differences order squares as their own sums would
    whole = torch.nn.functional.pad(value.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    below, right = (
        torch.arange(length, device=value.device) + side.clamp_max(length)[:, None] for length in (height, width)
    )
    strips = whole.gather(1, below.clamp_max(height)[:, :, None].expand(-1, -1, width + 1)) - whole[:, :height]
    totals = strips.gather(2, right.clamp_max(width)[:, None].expand(-1, height, -1)) - strips[:, :, :width]
    return torch.where((below <= height)[:, :, None] & (right <= width)[:, None], totals, -torch.inf)


def in_square(corner: Tensor, side: Tensor, like: Tensor) -> Tensor:
    """Return bool `[N, H, W]`, as `like`: the pixels of squares of `side` whose `corner` is counted row by row."""
    inside = []
    for first, length in zip((corner // like.shape[2], corner % like.shape[2]), like.shape[1:], strict=True):
        at = torch.arange(length, device=like.device)
        inside.append((at >= first[:, None]) & (at < (first + side)[:, None]))
    return inside[0][:, :, None] & inside[1][:, None]


def _extent(line: Tensor) -> Tensor:
    # from the first to the last of bool [N, L]
    length = line.shape[1]
    first, last = line.int().argmax(1), length - 1 - line.int().flip(1).argmax(1)
    return torch.where(line.any(1), last - first + 1, 0)
