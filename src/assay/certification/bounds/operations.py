"""The operations that bounds know: what each does to values, to distances, and to linear functions of its output.

All are affine but `Relu`. Values are `[N, *S]`; a spread is a distance from a centre, value by value.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.certification.bounds.rows import Rows


class Operation(Protocol):
    """One operation of a network, with its weights as tensors."""

    @property
    def terms(self) -> int:
        """How many products are summed to one value of the output, at most: what rounding grows with."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the values of the output."""

    def spread(self, *radii: Tensor) -> Tensor:
        """Return how far the output can be from its centre, where the inputs are at most `radii` from theirs."""

    def magnitude(self, *sizes: Tensor) -> Tensor:
        """Return an upper bound of the sum of the sizes of everything that is added up, constants included."""

    def backward(self, rows: Rows) -> tuple[Rows, ...]:
        """Return linear functions of the output as functions of each input; constants are left to `constant`."""

    def constant(self, rows: Rows) -> Tensor | float:
        """Return what the operation's own constants add to each row."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """`x W^T + b`: weight `[K, D]`, on values `[N, D]`."""

    weight: Tensor
    bias: Tensor | None = None

    @property
    def terms(self) -> int:
        """One product for each input."""
        return self.weight.shape[1]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return `[N, K]`."""
        return F.linear(inputs[0], self.weight, self.bias)

    def spread(self, *radii: Tensor) -> Tensor:
        """Return `|W| r`."""
        return F.linear(radii[0], self.weight.abs())

    def magnitude(self, *sizes: Tensor) -> Tensor:
        """Return `|W| s + |b|`."""
        return F.linear(sizes[0], self.weight.abs(), None if self.bias is None else self.bias.abs())

    def backward(self, rows: Rows) -> tuple[Rows, ...]:
        """Return `A W`."""
        return (rows.with_values(rows.values @ self.weight),)

    def constant(self, rows: Rows) -> Tensor | float:
        """Return `A b`."""
        return 0.0 if self.bias is None else rows.values @ self.bias


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution in two dimensions with zeros around the image; average pooling is one too."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    size: tuple[int, int]
    """Height and width of the input."""

    @property
    def terms(self) -> int:
        """One product for each weight of a filter."""
        return self.weight[0].numel()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return `[N, C', H', W']`."""
        return self._convolved(inputs[0], self.weight, self.bias)

    def spread(self, *radii: Tensor) -> Tensor:
        """Return `|W| r`."""
        return self._convolved(radii[0], self.weight.abs(), None)

    def magnitude(self, *sizes: Tensor) -> Tensor:
        """Return `|W| s + |b|`."""
        return self._convolved(sizes[0], self.weight.abs(), None if self.bias is None else self.bias.abs())

    def backward(self, rows: Rows) -> tuple[Rows, ...]:
        """Return `A W`: a transposed convolution, on windows one without padding."""
        if rows.corner is None:
            values = self._transposed(rows.values, self.padding, self._left_over(rows.values.shape[2:]))
            return (rows.with_values(values),)
        values = self._overlapped(rows.values)
        step, shift = rows.corner.new_tensor(self.stride), rows.corner.new_tensor(self.padding)
        return (rows.with_values(values, rows.corner * step - shift),)

    def constant(self, rows: Rows) -> Tensor | float:
        """Return `A b`."""
        return 0.0 if self.bias is None else rows.values.flatten(2).sum(2) @ self.bias

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def _transposed(self, x: Tensor, padding: tuple[int, int], left_over: tuple[int, int]) -> Tensor:
        return F.conv_transpose2d(x, self.weight, None, self.stride, padding, left_over, self.groups, self.dilation)

    def _overlapped(self, x: Tensor) -> Tensor:
        # the same without padding: one product of matrices, and a sum for each weight of the kernel. On windows of a
        # few pixels, in double precision, it takes a tenth of torch's time
        (rows, _, h, w), (high, wide) = x.shape, self.weight.shape[2:]
        by_group = self.weight.reshape(self.groups, -1, self.weight[0].numel())
        if h == w == 1 and self.groups == 1 and self.dilation == (1, 1):
            return (x.flatten(1) @ self.weight.flatten(1)).view(rows, *self.weight.shape[1:])
        pixels = x.permute(2, 3, 0, 1).reshape(h * w * rows, *by_group.shape[:2]).transpose(0, 1)
        parts = (
            (pixels @ by_group).view(self.groups, h, w, rows, -1, high, wide).permute(5, 6, 3, 0, 4, 1, 2).flatten(3, 4)
        )
        size = [
            (n - 1) * step + apart * (k - 1) + 1
            for n, step, apart, k in zip((h, w), self.stride, self.dilation, (high, wide), strict=True)
        ]
        whole = x.new_zeros(rows, parts.shape[3], *size)
        for i in range(high):
            for j in range(wide):
                top, left = i * self.dilation[0], j * self.dilation[1]
                down, right = top + self.stride[0] * (h - 1) + 1, left + self.stride[1] * (w - 1) + 1
                whole[:, :, top : down : self.stride[0], left : right : self.stride[1]] += parts[i, j]
        return whole

    def _left_over(self, out: torch.Size) -> tuple[int, int]:
        # rows and columns at the far edge that no window reaches
        kernel = self.weight.shape[2:]
        rest = [
            self.size[i]
            - ((out[i] - 1) * self.stride[i] - 2 * self.padding[i] + self.dilation[i] * (kernel[i] - 1) + 1)
            for i in (0, 1)
        ]
        return rest[0], rest[1]


@dataclasses.dataclass(frozen=True)
class Scale:
    """`x * scale + shift`, both broadcast over `shape`, that of one image's values.

    `added` is the sum of the sizes of what `shift` was made of: its parts may cancel, their rounding does not.
    """

    scale: Tensor
    shift: Tensor
    shape: tuple[int, ...]
    added: Tensor

    @property
    def terms(self) -> int:
        """What batch norm rounds at most, in whatever order it multiplies."""
        return 8

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the values."""
        return inputs[0] * self.scale + self.shift

    def spread(self, *radii: Tensor) -> Tensor:
        """Return `|scale| r`."""
        return radii[0] * self.scale.abs()

    def magnitude(self, *sizes: Tensor) -> Tensor:
        """Return `|scale| s`, and the sizes of what makes the shift."""
        return sizes[0] * self.scale.abs() + self.added

    def backward(self, rows: Rows) -> tuple[Rows, ...]:
        """Return `A scale`."""
        return (rows.times(self._over(self.scale, rows)),)

    def constant(self, rows: Rows) -> Tensor | float:
        """Return `A shift`."""
        return rows.dot(self._over(self.shift, rows))

    def _over(self, values: Tensor, rows: Rows) -> Tensor:
        # a plain number is kept in double precision, which would become that of the rows
        return values.to(rows.values.dtype).expand(1, *self.shape)


@dataclasses.dataclass(frozen=True)
class Reshape:
    """The values of an image in another shape; also where nothing changes at all."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def terms(self) -> int:
        """Nothing is rounded."""
        return 0

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the values in the new shape."""
        return inputs[0].reshape(len(inputs[0]), *self.after)

    def spread(self, *radii: Tensor) -> Tensor:
        """Return the radii in the new shape."""
        return self.forward(*radii)

    def magnitude(self, *sizes: Tensor) -> Tensor:
        """Return the sizes in the new shape."""
        return self.forward(*sizes)

    def backward(self, rows: Rows) -> tuple[Rows, ...]:
        """Return the rows in the old shape."""
        if self.before == self.after:
            return (rows,)
        values = rows.dense(self.after).values
        return (Rows(values.reshape(len(values), *self.before), rows.image),)

    def constant(self, rows: Rows) -> Tensor | float:
        """Nothing is added."""
        return 0.0


@dataclasses.dataclass(frozen=True)
class Pad:
    """Zeros around an image: `left, right, top, bottom`."""

    width: tuple[int, int, int, int]

    @property
    def terms(self) -> int:
        """Nothing is rounded."""
        return 0

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the values with zeros around them."""
        return F.pad(inputs[0], self.width)

    def spread(self, *radii: Tensor) -> Tensor:
        """Return the radii with zeros around them."""
        return self.forward(*radii)

    def magnitude(self, *sizes: Tensor) -> Tensor:
        """Return the sizes with zeros around them."""
        return self.forward(*sizes)

    def backward(self, rows: Rows) -> tuple[Rows, ...]:
        """Return the rows without what belongs to the zeros."""
        left, right, top, bottom = self.width
        if rows.corner is None:
            return (rows.with_values(F.pad(rows.values, (-left, -right, -top, -bottom))),)
        return (rows.with_values(rows.values, rows.corner - rows.corner.new_tensor((top, left))),)

    def constant(self, rows: Rows) -> Tensor | float:
        """Nothing is added."""
        return 0.0


@dataclasses.dataclass(frozen=True)
class Sum:
    """`x + factor * z` of two values of the network, of equal shape."""

    factor: float = 1.0

    @property
    def terms(self) -> int:
        """Two."""
        return 2

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the sum."""
        return inputs[0] + self.factor * inputs[1]

    def spread(self, *radii: Tensor) -> Tensor:
        """Return the sum of the radii."""
        return radii[0] + abs(self.factor) * radii[1]

    def magnitude(self, *sizes: Tensor) -> Tensor:
        """Return the sum of the sizes."""
        return self.spread(*sizes)

    def backward(self, rows: Rows) -> tuple[Rows, ...]:
        """Return the rows for both."""
        return rows, rows if self.factor == 1 else rows.with_values(rows.values * self.factor, rows.corner)

    def constant(self, rows: Rows) -> Tensor | float:
        """Nothing is added."""
        return 0.0


@dataclasses.dataclass(frozen=True)
class Relu:
    """`max(x, 0)`. Linear functions go through it by lines above and below, see `crown`."""

    @property
    def terms(self) -> int:
        """Nothing is rounded."""
        return 0

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the values above 0."""
        return inputs[0].clamp_min(0)

    def spread(self, *radii: Tensor) -> Tensor:
        """Return the radii: it moves no two values apart."""
        return radii[0]

    def magnitude(self, *sizes: Tensor) -> Tensor:
        """Return the sizes."""
        return sizes[0]

    def backward(self, rows: Rows) -> tuple[Rows, ...]:
        """Refused: which line is used depends on the bounds of the input."""
        raise NotImplementedError("linear functions go through a ReLU by its lines")

    def constant(self, rows: Rows) -> Tensor | float:
        """Nothing is added."""
        return 0.0
