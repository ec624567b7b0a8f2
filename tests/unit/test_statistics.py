"""The exact bound on what a random look could have missed, and Tango's interval, against published and closed forms."""

from __future__ import annotations

import pytest
from scipy.stats import beta, hypergeom

from assay.statistics import fewest_asked, hypergeometric_most, paired_difference


@pytest.mark.parametrize(
    ("population", "asked", "hits"), [(20, 7, 0), (41, 13, 2), (60, 59, 1), (184, 43, 0), (9, 4, 4)]
)
def test_the_bound_is_the_largest_count_under_which_so_few_hits_are_likely(
    population: int, asked: int, hits: int
) -> None:
    most = hypergeometric_most(population, asked, hits)
    assert hypergeom.cdf(hits, population, most, asked) > 0.05
    assert most == population - (asked - hits) or hypergeom.cdf(hits, population, most + 1, asked) <= 0.05


@pytest.mark.parametrize(("asked", "hits"), [(10, 0), (59, 0), (40, 1)])
def test_in_a_large_population_it_is_that_of_clopper_and_pearson(asked: int, hits: int) -> None:
    share = hypergeometric_most(100_000, asked, hits) / 100_000
    assert share == pytest.approx(beta.ppf(0.95, hits + 1, asked - hits), abs=2e-3)
    if not hits:
        assert share == pytest.approx(1 - 0.05 ** (1 / asked), abs=2e-3)


def test_who_asks_all_has_missed_none_and_who_asks_nobody_may_have_missed_all() -> None:
    assert hypergeometric_most(30, 30, 0) == 0
    assert hypergeometric_most(30, 30, 4) == 4
    assert hypergeometric_most(30, 0, 0) == 30
    assert hypergeometric_most(0, 0, 0) == 0


@pytest.mark.parametrize("most", [0, 1, 10])
def test_the_fewest_that_have_to_be_asked(most: int) -> None:
    fewest = fewest_asked(95, most)
    assert hypergeometric_most(95, fewest) <= most
    assert fewest == 0 or hypergeometric_most(95, fewest - 1) > most


@pytest.mark.parametrize(("population", "asked", "hits"), [(5, 6, 0), (5, 3, 4), (5, 3, -1)])
def test_more_hits_than_asked_and_more_asked_than_there_are_are_refused(population: int, asked: int, hits: int) -> None:
    with pytest.raises(ValueError, match="expected at most"):
        hypergeometric_most(population, asked, hits)


@pytest.mark.parametrize(
    ("only_first", "only_second", "n", "confidence", "published"),
    [
        # Cavo et al. 2012 and Bentur et al. 2009, in chapter 8 of Fagerland, Lydersen and Laake 2017
        (6, 16, 161, 0.95, (-0.1240, -0.0054)),
        (1, 7, 21, 0.95, (-0.517, -0.026)),
        # PropCIs 0.3: scoreci.mp(25, 28, 618, 0.90), whose difference has the other sign
        (28, 25, 618, 0.90, (-0.0148, 0.0247)),
    ],
)
def test_the_interval_of_a_paired_difference_is_the_published_one(
    only_first: int, only_second: int, n: int, confidence: float, published: tuple[float, float]
) -> None:
    digits = 5e-4 if abs(published[0]) > 0.5 else 5e-5
    assert paired_difference(only_first, only_second, n, confidence) == pytest.approx(published, abs=digits)


@pytest.mark.parametrize(("one", "two", "n"), [(0, 0, 50), (3, 0, 50), (0, 50, 50), (7, 7, 14), (50, 0, 50), (1, 0, 1)])
def test_the_interval_of_a_paired_difference_holds_it_and_turns_with_its_sides(one: int, two: int, n: int) -> None:
    low, high = paired_difference(one, two, n)
    assert -1 <= low <= (one - two) / n <= high <= 1 and low < high
    assert paired_difference(two, one, n) == pytest.approx((-high, -low))
    # without a discordant pair it is z^2 / (n + z^2), at both sides
    if one == two == 0:
        assert high == pytest.approx(1.959964**2 / (n + 1.959964**2), abs=1e-6)


def test_no_pairs_say_nothing_and_too_many_are_an_error() -> None:
    assert paired_difference(0, 0, 0) == (-1.0, 1.0)
    with pytest.raises(ValueError, match="3 \\+ 3 discordant pairs of 5"):
        paired_difference(3, 3, 5)
