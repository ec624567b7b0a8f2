"""What attacks share that trade the size of a change against an objective, one weighed by a constant c."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from assay.core.tensors import flat, rows
from assay.core.threat import UNBOXED, Threat

_TINY, _HUGE = 1e-20, 1e30


class Constant(NamedTuple):
    """The weight of the objective, `[N]`, between one that failed (0 before) and one that succeeded (inf before)."""

    value: Tensor
    low: Tensor
    high: Tensor

    @staticmethod
    def of(value: float | None, like: Tensor) -> Constant:
        """Return a constant to begin with; None: it follows from the first look."""
        first = like.new_full((len(like),), math.nan if value is None else value)
        return Constant(first, torch.zeros_like(first), torch.full_like(first, math.inf))

    def known(self, first: Tensor) -> Constant:
        """Return the constant with `first` (`[N]`) where there was none."""
        return self._replace(value=torch.where(self.value.isnan(), first, self.value))

    def after(self, ended: Tensor, hit: Tensor, factor: float) -> Constant:
        """Return the constant for the next round of the rows that `ended` theirs.

        While only failures or only successes are known it grows or shrinks by `factor`; then it is their geometric
        mean: what is right for one network can be decades away for another.
        """
        low = torch.where(ended & ~hit, self.low.maximum(self.value), self.low)
        high = torch.where(ended & hit, self.high.minimum(self.value), self.high)
        middle = low.sqrt() * high.sqrt()
        value = torch.where(high.isinf(), self.value * factor, torch.where(low == 0, self.value / factor, middle))
        return Constant(torch.where(ended, value.clamp(1 / _HUGE, _HUGE), self.value), low, high)


def balance(loss: Tensor, grad: Tensor, threat: Threat) -> Tensor:
    """Return the c `[N]` at which |u|^2 and -c objective balance on the linearised boundary: 2 |f| / ||grad||^2."""
    steep = flat(grad * threat.scale).square().sum(1)
    return (2 * loss.abs() / steep.clamp_min(_TINY)).clamp(1 / _HUGE, _HUGE)


@dataclasses.dataclass(frozen=True)
class Variables:
    """The variables that a descent moves: the change itself in the threat's unit, clipped to the box, or `tanh`'s.

    With `tanh` (Carlini and Wagner 2017) a value is low + (high - low) (tanh w / 0.99 + 1) / 2: the box is kept by
    itself. Values at its ends begin at 0.99, where the slope is not yet lost. An endless box has no use for it.
    """

    threat: Threat
    tanh: bool = False

    _edge = 0.99

    def slope(self, z: Tensor) -> float | Tensor:
        """Return how far a value moves per unit of its variable."""
        if not self._bends:
            return self.threat.scale
        low, high = self.threat.box
        return (high - low) / (2 * self._edge) * (1 - self._inside(z).square())

    def moved(self, z: Tensor, change: Tensor) -> Tensor:
        """Return the point whose variables differ from those of `z` by `change`."""
        if not self._bends:
            return self.threat.clip(z + self.threat.scale * change)
        low, high = self.threat.box
        bent = (torch.atanh(self._inside(z)) + change).tanh() / self._edge
        return self.threat.clip(low + (high - low) * (bent + 1) / 2)

    @property
    def _bends(self) -> bool:
        return self.tanh and self.threat.box != UNBOXED

    def _inside(self, z: Tensor) -> Tensor:
        low, high = self.threat.box
        return self._edge * (2 * (z - low) / (high - low) - 1)


def cosine(rate: float, t: Tensor, inner: int) -> Tensor:
    """Return step sizes `[N]` that fall from `rate` to a hundredth of it in rounds of `inner` steps."""
    return rate * (0.01 + 0.99 * (1 + (math.pi * t / inner).cos()) / 2)


def where(rows_: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return `new` in the rows where bool `[N]` says so, else `old`."""
    return torch.where(rows(rows_, old), new, old)


def settled_at(x: Tensor, z: Tensor) -> Tensor:
    """Return `z` with the values of `x` where they differ by rounding alone: a descent back to `x` then arrives."""
    return torch.where((z - x).abs() <= 1e-6, x, z)
