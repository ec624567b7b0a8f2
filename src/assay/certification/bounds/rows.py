"""Linear functions of the values of one layer, many at once: dense, or as windows where each sees only a few."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Rows:
    """R linear functions of a layer's values: `values` are their coefficients, `image` (int64 `[R]`) whose they are.

    Dense ones are `[R, *S]`. With a `corner` (int64 `[R, 2]`: row and column, which may lie outside the layer) they are
    windows `[R, C, h, w]`, and 0 elsewhere; what a window has outside the layer does not count.
    """

    values: Tensor
    image: Tensor
    corner: Tensor | None = None

    def with_values(self, values: Tensor, corner: Tensor | None = None) -> Rows:
        """Return rows of the same images with other coefficients."""
        return Rows(values, self.image, corner)

    def seen(self, values: Tensor) -> Tensor:
        """Return of values `[N, *S]` (or `[1, *S]`) those that each row has coefficients for; 0 outside the layer."""
        image = self.image if len(values) > 1 else torch.zeros_like(self.image)
        if self.corner is None:
            return values if len(values) == 1 else values[image]
        return _windows(values, self.values.shape[2:], image, self.corner)

    def times(self, values: Tensor) -> Rows:
        """Return the rows with each coefficient multiplied by the value that it belongs to."""
        return self.with_values(self.values * self.seen(values), self.corner)

    def dot(self, values: Tensor) -> Tensor:
        """Return each row's value `[R]` at `values` `[N, *S]` (or `[1, *S]`)."""
        return (self.values * self.seen(values)).flatten(1).sum(1)

    def dense(self, shape: tuple[int, ...]) -> Rows:
        """Return the rows without windows, for a layer of this `shape`."""
        if self.corner is None:
            return self
        (height, width), (h, w) = shape[1:], self.values.shape[2:]
        # room for every window, the parts outside the layer included
        low, high = self.corner.amin(0), self.corner.amax(0)
        top, left = (max(0, -int(v)) for v in low)
        tall, wide = max(height, int(high[0]) + h) + top, max(width, int(high[1]) + w) + left
        whole = self.values.new_zeros(len(self.values), shape[0], tall, wide)
        row = (self.corner[:, :1] + top + torch.arange(h, device=self.corner.device))[:, None, :, None]
        column = (self.corner[:, 1:] + left + torch.arange(w, device=self.corner.device))[:, None, None, :]
        at = (row * wide + column).expand(-1, shape[0], -1, -1).flatten(2)
        whole = whole.flatten(2).scatter(2, at, self.values.flatten(2)).view_as(whole)
        return Rows(whole[:, :, top : top + height, left : left + width], self.image)

    def plus(self, other: Rows, shape: tuple[int, ...]) -> Rows:
        """Return the sum of two sets of rows of the same images, of a layer of this `shape`."""
        if self.corner is None and other.corner is None:
            return self.with_values(self.values + other.values)
        if self.corner is None or other.corner is None:
            return self.dense(shape).plus(other.dense(shape), shape)
        # windows that grew along two paths are apart by the same distance in every row
        start = torch.minimum(self.corner[0], other.corner[0])
        end = torch.maximum(_end(self.values, self.corner), _end(other.values, other.corner))
        values = _grown(self.values, self.corner[0], start, end) + _grown(other.values, other.corner[0], start, end)
        return self.with_values(values, self.corner + (start - self.corner[0]))


def _end(values: Tensor, corner: Tensor) -> Tensor:
    return corner[0] + corner.new_tensor(values.shape[2:])


def _grown(values: Tensor, corner: Tensor, start: Tensor, end: Tensor) -> Tensor:
    before, after = corner - start, end - corner - corner.new_tensor(values.shape[2:])
    return F.pad(values, (int(before[1]), int(after[1]), int(before[0]), int(after[0])))


def _windows(values: Tensor, size: torch.Size, image: Tensor, corner: Tensor) -> Tensor:
    # [N, C, H, W] -> [R, C, h, w], with zeros around the layer
    (h, w), (height, width) = size, values.shape[2:]
    top, left = (max(0, -int(v)) for v in corner.amin(0))
    low = corner.amax(0) + corner.new_tensor((h - height, w - width))
    padded = F.pad(values, (left, max(0, int(low[1])), top, max(0, int(low[0]))))
    every = padded.unfold(2, h, 1).unfold(3, w, 1)
    row, column = corner[:, 0] + top, corner[:, 1] + left
    images, channels, down, across = every.shape[:4]
    if len(image) < images * down * across:
        return every[image, :, row, column]
    # several rows look at one place: copied once, each window lies in one piece
    pieces = every.permute(0, 2, 3, 1, 4, 5).reshape(images * down * across, -1)
    return pieces[(image * down + row) * across + column].view(-1, channels, h, w)
