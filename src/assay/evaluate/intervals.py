"""Intervals for shares, and the exact paired test."""

from __future__ import annotations

import math
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the Wilson interval of the share `hits` / `n` (Wilson 1927); (0, 1) for no samples."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, ratio = hits / n, z * z / n
    middle = (share + ratio / 2) / (1 + ratio)
    half = z / (1 + ratio) * math.sqrt(share * (1 - share) / n + ratio / (4 * n))
    # at the ends the interval touches 0 or 1 exactly, which rounding can miss
    return (0.0 if hits == 0 else max(0.0, middle - half)), (1.0 if hits == n else min(1.0, middle + half))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test for the two discordant counts; 1 where there are none."""
    from scipy.stats import binomtest

    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    return float(binomtest(min(only_first, only_second), discordant, 0.5).pvalue)
