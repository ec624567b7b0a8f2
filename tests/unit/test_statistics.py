"""The exact bound on what a random look at some of a population could have missed, against scipy and closed forms."""

from __future__ import annotations

import pytest
from scipy.stats import beta, hypergeom

from assay.statistics import fewest_asked, hypergeometric_most


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
