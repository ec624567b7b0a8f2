"""Changes of colour as changes of brightness and of two differences of colour: Y, Cb and Cr."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.core.tensors import flat

NAMES = ("Y", "Cb", "Cr")

Matrix = tuple[tuple[float, ...], ...]

# the full-range matrix of JPEG (ITU-T T.871, the weights of BT.601): Cb and Cr are B - Y and R - Y, from -.5 to .5
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114
_CB, _CR = 2 * (1 - _BLUE), 2 * (1 - _RED)
_FROM_RGB: Matrix = (
    (_RED, _GREEN, _BLUE),
    (-_RED / _CB, -_GREEN / _CB, 0.5),
    (0.5, -_GREEN / _CR, -_BLUE / _CR),
)
# the change of R, G and B that changes one component by 1
_TO_RGB: Matrix = ((1, 1, 1), (0, -_BLUE * _CB / _GREEN, _CB), (_CR, -_RED * _CR / _GREEN, 0))

# float32 cannot hold three values exactly a shade of grey apart
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Components:
    """Which of Y, Cb and Cr may change, each by its weight times the budget; one of weight 0 does not change.

    K of the three have a weight. A change `[N, 3, H, W]` of R, G and B is measured as `u` `[N, K, H, W]`, each
    component divided by its weight.
    """

    weights: tuple[float, float, float] = (1.0, 0.0, 0.0)

    @staticmethod
    def of(given: Any) -> Components:
        """Return what three numbers of 0 or more describe. Raises `BadInput` for anything else, and for no change."""
        weights = tuple(given) if isinstance(given, (Sequence, Tensor)) and not isinstance(given, str) else (given,)
        try:
            numbers = tuple(float(one) for one in weights)
        except (TypeError, ValueError):
            numbers = ()
        if len(numbers) != 3 or not all(0 <= one < math.inf for one in numbers) or not any(numbers):
            raise BadInput(
                f"components is {given!r}, expected three numbers of 0 or more for Y, Cb and Cr, at least one of them "
                "above 0: the share of the budget that each may change by, such as (1, 0.5, 0.5)."
            )
        return Components((numbers[0], numbers[1], numbers[2]))

    @property
    def grey(self) -> bool:
        """Whether Y alone may change: by the same in all channels."""
        return not any(self.weights[1:])

    @property
    def finest(self) -> float:
        """The smallest weight that is none of 0."""
        return min(one for one in self.weights if one)

    @property
    def count(self) -> int:
        """How many components may change: K."""
        return sum(one > 0 for one in self.weights)

    def measured(self, change: Tensor) -> Tensor:
        """Return `u` `[N, K, H, W]` of a change `[N, 3, H, W]`; what others change by is left out."""
        return _mixed(self._measuring, change)

    def change(self, u: Tensor) -> Tensor:
        """Return the change `[N, 3, H, W]` that `u` `[N, K, H, W]` is the measure of."""
        return _mixed(self._changing, u)

    def gradient(self, grad: Tensor) -> Tensor:
        """Return the gradient by `u`, `[N, K, H, W]`, of what has the gradient `grad` `[N, 3, H, W]` by R, G and B."""
        return _mixed(tuple(zip(*self._changing, strict=True)), grad)

    def most(self, room: Tensor) -> Tensor:
        """Return a bound of `u` `[N, K, H, W]` for changes of at most `room` `[N, 3, H, W]`, either way."""
        return _mixed(tuple(tuple(abs(one) for one in row) for row in self._measuring), room)

    def kept(self, change: Tensor, z: Tensor) -> Tensor:
        """Return bool `[N]`: whether the components of weight 0 are, up to rounding, what they were before `z`."""
        rows = tuple(row for row, weight in zip(_FROM_RGB, self.weights, strict=True) if not weight)
        if not rows:
            return torch.ones(len(change), dtype=torch.bool, device=change.device)
        # false for NaN
        return (flat(_mixed(rows, change)).abs().amax(1) / flat(z).abs().amax(1).clamp_min(1)) <= _ROUNDING

    @functools.cached_property
    def _measuring(self) -> Matrix:
        return tuple(
            tuple(one / weight for one in row) for row, weight in zip(_FROM_RGB, self.weights, strict=True) if weight
        )

    @functools.cached_property
    def _changing(self) -> Matrix:
        columns = (
            tuple(one * weight for one in row) for row, weight in zip(_TO_RGB, self.weights, strict=True) if weight
        )
        return tuple(zip(*columns, strict=True))


def shortened(change: Tensor, x: Tensor, box: tuple[float, float]) -> Tensor:
    """Return the change `[N, C, H, W]` with that of each pixel shortened, all channels alike, until it is in the box.

    The nearest such change where all channels change by the same.
    """
    low, high = box
    if math.isinf(low) and math.isinf(high):
        return change
    room = torch.where(change > 0, high - x, x - low)
    # a channel that does not change is never short of room
    share = (room / change.abs().clamp_min(1e-30)).amin(1, keepdim=True)
    return change * share.clamp(0, 1)


def _mixed(matrix: Matrix, value: Tensor) -> Tensor:
    # J x I times [N, I, H, W]: value by value, so that a row does not depend on how many there are beside it
    return torch.stack([_line(row, value) for row in matrix], 1)


def _line(row: tuple[float, ...], value: Tensor) -> Tensor:
    parts = [value[:, i] if one == 1 else value[:, i] * one for i, one in enumerate(row) if one]
    return functools.reduce(torch.add, parts) if parts else torch.zeros_like(value[:, 0])
