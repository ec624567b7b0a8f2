"""Counts per bin of one width, as a value that a chart draws and a file keeps."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from assay.core.errors import BadInput

BINS = 40
MOST_BINS = 10_000


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How many values lie in each bin: bin i is [`edges[i]`, `edges[i + 1]`), and the last one holds its upper edge."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def histogram(values: Tensor, width: float | None = None) -> Histogram:
    """Count finite values of at least 0, `[N]`, in bins of `width` from 0 to the largest of them.

    Without a width it is the 1, 2 or 5 times a power of ten that makes about `BINS` bins. No values give one empty
    bin. Raises `BadInput` for a width that is no positive number or makes more than `MOST_BINS` bins.
    """
    largest = float(values.max()) if len(values) else 0.0
    width = _round_width(largest) if width is None else width
    if not 0 < width < math.inf or largest / width > MOST_BINS:
        raise BadInput(
            f"The bin width is {width}, and the largest value {largest:g}; expected a positive width that makes "
            f"{MOST_BINS:,} bins or fewer, such as {_round_width(largest):g}."
        )
    bins = max(1, math.ceil(largest / width))
    edges = torch.tensor([i * width for i in range(bins + 1)], dtype=torch.float64)
    place = (torch.bucketize(values.double(), edges, right=True) - 1).clamp(0, bins - 1)
    return Histogram(tuple(edges.tolist()), tuple(place.bincount(minlength=bins).tolist()))


def _round_width(largest: float) -> float:
    # the smallest numbers divide to nothing
    if largest / BINS <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest / BINS))
    return next(step * power for step in (1, 2, 5, 10) if step * power * BINS >= largest * (1 - 1e-6))
