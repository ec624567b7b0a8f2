"""Gaussian noise on the lattice of 8-bit images, exact to the last random bit.

In floating point the sum of a pixel and Gaussian noise tells the pixel: some sums can be reached from one grey level
and not from its neighbour, and a network that reads the lowest bits is certified where it is wrong (Voracek and Hein
2023). Here image and noise are whole grey levels. Rounding to the lattice commutes with adding a lattice image,
round(x + e) = x + round(e), so what is proved of Gaussian smoothing holds for lattice images unchanged.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from assay.core.draws import Draws

LEVELS = 255
"""Grey levels above black: the lattice is k / 255."""

BITS = 63
"""Random bits of one value."""

# beyond so many deviations the normal distribution function is 0 or 1 to 63 bits
_FARTHEST = 9.2
# so many leading bits decide nearly every value by a look into a table
_LEADING = 14


class _Table(NamedTuple):
    # `bounds` are the thresholds, sorted; `levels` the noise for leading bits that no threshold divides, else NaN
    bounds: Tensor
    levels: Tensor
    lowest: int


def thresholds(sigma: float) -> tuple[int, list[int]]:
    """Return the lowest noise -K in grey levels, and floor(2^63 Phi((2 i + 1) / (510 sigma))) for i from -K on.

    Computed in exact arithmetic of 192 bits. A value of 63 random bits that lies above the first j thresholds is the
    noise -K + j.
    """
    import mpmath

    count = math.ceil(_FARTHEST * LEVELS * sigma) + 1
    with mpmath.workprec(192):
        half = [mpmath.ncdf(mpmath.mpf(2 * i + 1) / (2 * LEVELS * mpmath.mpf(sigma))) for i in range(count)]
        scale = mpmath.mpf(2) ** BITS
        upper = [int(mpmath.floor(scale * one)) for one in half]
        # by symmetry; the upper half keeps its digits because 192 bits hold it
        lower = [int(mpmath.floor(scale * (1 - one))) for one in reversed(half)]
    return -count, lower + upper


@functools.lru_cache(maxsize=16)
def _table(sigma: float, device: torch.device) -> _Table:
    lowest, exact = thresholds(sigma)
    bounds = torch.tensor(exact, dtype=torch.int64)
    width = BITS - _LEADING
    first = torch.arange(2**_LEADING, dtype=torch.int64) << width
    last = first + (2**width - 1)
    below, above = (torch.searchsorted(bounds, at, right=right) for at, right in ((first, False), (last, True)))
    levels = torch.where(below == above, (below + lowest).float(), torch.nan)
    return _Table(bounds.to(device), levels.to(device), lowest)


class LatticeNoise(NamedTuple):
    """Noise in whole grey levels, float32 `[N, *S]`, and which rows it is of use for, bool `[N]`.

    A row is of no use where 63 bits do not tell a value from its neighbour, once in 2^50 images or less.
    """

    levels: Tensor
    known: Tensor


def lattice_noise(draws: Draws, sigma: float, *shape: int) -> LatticeNoise:
    """Return 255 e rounded to whole numbers, with e normal of deviation `sigma`, for the samples of `draws`."""
    return from_bits((draws.bits("lattice", *shape) >> 1) & (2**BITS - 1), sigma)


def from_bits(bits: Tensor, sigma: float) -> LatticeNoise:
    """Return the noise that 63 random bits each (int64 `[N, *S]`, 0 or more) stand for."""
    table, every = _table(sigma, bits.device), bits.reshape(-1)
    levels = table.levels.take(every >> (BITS - _LEADING))
    known = torch.ones(len(bits), dtype=torch.bool, device=bits.device)
    divided = levels.isnan().nonzero().squeeze(1)
    if len(divided):
        rest = every[divided]
        above = torch.searchsorted(table.bounds, rest, right=True)
        levels[divided] = (above + table.lowest).float()
        # at a threshold itself the exact boundary lies within the last bit
        at = divided[(above > 0) & (table.bounds[(above - 1).clamp_min(0)] == rest)]
        known[at // max(1, math.prod(bits.shape[1:]))] = False
    return LatticeNoise(levels.view_as(bits), known)


def to_levels(x: Tensor) -> Tensor:
    """Return the nearest grey levels of images in [0, 1], whole numbers in float32."""
    return (x.detach().float() * LEVELS).round()


def from_levels(levels: Tensor, like: Tensor) -> Tensor:
    """Return images of the type of `like` from grey levels: divided once, in double precision where the images are."""
    wide = levels.double() if like.dtype is torch.float64 else levels
    return (wide / LEVELS).to(like.dtype)
