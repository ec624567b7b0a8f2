"""Intervals for shares and for differences of paired ones, and the exact paired test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson(hits: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the Wilson interval of the share `hits` / `n` (Wilson 1927); (0, 1) for no samples."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, ratio = hits / n, z * z / n
    middle = (share + ratio / 2) / (1 + ratio)
    half = z / (1 + ratio) * math.sqrt(share * (1 - share) / n + ratio / (4 * n))
    # at the ends the interval touches 0 or 1 exactly, which rounding can miss
    return (0.0 if hits == 0 else max(0.0, middle - half)), (1.0 if hits == n else min(1.0, middle + half))


def clopper_pearson(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of the share `hits` / `n` (Clopper and Pearson 1934); (0, 1) for no samples.

    It holds the true share at least as often as it says.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 or n == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n or n == 0 else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def clustered(hits: Sequence[int], each: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of the share of hits among groups of `each` observations, `hits[i]` of them in group i.

    Wilson's, with the number of independent observations that the spread between the groups shows (Korn and Graubard
    1998): at least that of the groups, as if those of one group were all alike, at most all of them. Groups that differ
    less than chance would have it show all of them; one group, or hits everywhere or nowhere, show only the groups.
    """
    groups, total = len(hits), len(hits) * each
    if groups == 0:
        return 0.0, 1.0
    share = sum(hits) / total
    variance = sum((one / each - share) ** 2 for one in hits) / max(1, groups - 1) / groups
    unequal = groups > 1 and 0 < share < 1
    effective = (share * (1 - share) / variance if variance > 0 else total) if unequal else groups
    n = min(max(effective, groups), total)
    return wilson(share * n, n, confidence)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test for the two discordant counts; 1 where there are none."""
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    # whole numbers are exact, and spare readers the second that scipy.stats takes to load
    ways = below = 1
    for i in range(1, fewer + 1):
        ways = ways * (discordant - i + 1) // i
        below += ways
    return float(min(Fraction(1), Fraction(2 * below, 2**discordant)))


def paired_score(only_first: int, only_second: int, n: int, difference: float) -> float:
    """Return Tango's score of a difference of two shares of the same `n` pairs: how far what is seen lies above it.

    It is about normal where `difference` is the true one (Tango 1998). The difference that is seen is (`only_first` -
    `only_second`) / `n`.
    """
    # the share of pairs that only the second hit is the likeliest one under this difference
    half = (2 * n - only_first + only_second) * difference - only_first - only_second
    root = math.sqrt(max(0.0, half * half + 8 * n * only_second * difference * (1 - difference)))
    variance = n * (2 * (root - half) / (4 * n) + difference * (1 - difference))
    gap = n * ((only_first - only_second) / n - difference)
    return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap) if gap else 0.0


def paired_difference(only_first: int, only_second: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Tango's score interval of the difference of two shares of the same `n` pairs (Tango 1998).

    The difference is (`only_first` - `only_second`) / `n`: the two counts are of pairs that one of the sides alone hit.
    The interval keeps to [-1, 1], is that for no pairs, and where no pair is discordant it still has a width. Raises
    `ValueError` for more discordant pairs than there are pairs.
    """
    if min(only_first, only_second) < 0 or only_first + only_second > n:
        raise ValueError(f"{only_first} + {only_second} discordant pairs of {n}; expected at most as many as pairs.")
    if n == 0:
        return -1.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    seen = (only_first - only_second) / n

    def where(low: float, high: float, wanted: float) -> float:
        for _ in range(80):  # halvings: below the digits of a float
            middle = (low + high) / 2
            above = paired_score(only_first, only_second, n, middle) > wanted
            low, high = (middle, high) if above else (low, middle)
        return (low + high) / 2

    return (-1.0 if seen == -1 else where(-1.0, seen, z)), (1.0 if seen == 1 else where(seen, 1.0, -z))


def share_score(hits: float, n: float, share: float) -> float:
    """Return the score of a share of which `hits` of `n` were seen: how far these lie above it (Wilson 1927)."""
    return (hits / n - share) * math.sqrt(n / (share * (1 - share)))


def two_sided(score: float) -> float:
    """Return the two-sided p-value of a score that is about normal."""
    return math.erfc(abs(score) / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that allow for so many tests at once, in the same order (Holm 1979).

    Where none of the hypotheses is false, one of them falls below a level no more often than that level says.
    """
    found, most = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[at]))
        found[at] = most
    return found


def hypergeometric_most(population: int, asked: int, hits: int = 0, confidence: float = CONFIDENCE) -> int:
    """Return how many of a `population` may be hits at most, of `asked` members of which, drawn at random, `hits` were.

    The exact one-sided bound: the largest count under which so few hits are seen with a probability of more than
    1 - `confidence`. In an endless population its share is Clopper and Pearson's bound; without a hit
    1 - 0.05^(1/asked) at 95 %. Raises `ValueError` where more were asked than there are, or hit than were asked.
    """
    if not 0 <= hits <= asked <= population:
        raise ValueError(f"{hits} hits of {asked} asked of {population}; expected at most as many as the next number.")
    rest = Fraction(1) - Fraction(str(confidence))
    ways = rest * math.comb(population, asked)

    def likely(count: int) -> bool:
        fewest = max(0, asked - (population - count))
        told = range(fewest, min(hits, count) + 1)
        return sum(math.comb(count, i) * math.comb(population - count, asked - i) for i in told) > ways

    low, high = hits, population - (asked - hits)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if likely(middle) else (low, middle - 1)
    return low


def fewest_asked(population: int, most: int, confidence: float = CONFIDENCE) -> int:
    """Return how many of a `population` have to be asked, and none be a hit, to say that at most `most` of them are."""
    low, high = 0, population
    while low < high:
        middle = (low + high) // 2
        enough = hypergeometric_most(population, middle, 0, confidence) <= most
        low, high = (low, middle) if enough else (middle + 1, high)
    return low
