"""Which rows say weaker, and what of a result changes nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.strength.board import BUDGET, DISTANCE, MINIMUM, OURS, QUERIES, Contender, Row
from benchmarks.strength.judge import Figures, weaker
from benchmarks.strength.page import lines_of, page, standing

ME, PEER = Contender(OURS, "pgd"), Contender("foolbox", "LinfPGD")


def row(kind: str, **more: Any) -> Row:
    return Row("row@cnn", kind, "zoo:mnist-cnn", "linf", ME, (PEER,), images=4, **more)


def result(reached: Sequence[float | None], mistakes: int = 0, **more: Any) -> dict[str, Any]:
    told = {"mistakes": mistakes, "images": len(reached) + mistakes, "forwards": 10.0, "backwards": 5.0, "cpu": 1.0}
    return {"sizes": list(reached), **told, **more}


def said(row: Row, ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    return weaker(row, Figures.of(row, ours), {"peer": Figures.of(row, theirs)})


def test_robust_accuracy_counts_mistakes_as_broken_and_success_leaves_them_out() -> None:
    figures = Figures.of(row(BUDGET), result([0.1, None, None], mistakes=1))
    assert (figures.robust, figures.success) == (0.5, pytest.approx(1 / 3))


def test_one_survivor_more_is_weaker_unless_the_row_allows_it() -> None:
    ours, theirs = result([0.1, None, None, None]), result([0.1, 0.1, None, None])
    assert said(row(BUDGET), ours, theirs) == "0.750 survive against 0.500"
    assert said(row(BUDGET, allowance=1), ours, theirs) == ""
    assert said(row(BUDGET), theirs, ours) == ""
    assert said(row(BUDGET), ours, ours) == ""


def test_over_seeds_only_a_difference_beyond_chance_is_weaker() -> None:
    def over(*survivors: int) -> Figures:
        runs = [result([None] * left + [0.1] * (100 - left)) for left in survivors]
        return Figures.mean_of([Figures.of(row(BUDGET), one) for one in runs])

    assert weaker(row(BUDGET), over(51, 50, 52), {"peer": over(50, 51, 50)}) == ""
    assert weaker(row(BUDGET), over(53, 54, 53), {"peer": over(50, 51, 50)}) == "0.533 survive against 0.503"
    # an attack without chance has no room
    assert weaker(row(BUDGET), over(51, 51, 51), {"peer": over(50, 50, 50)}) == "0.510 survive against 0.500"
    alone = over(51)
    assert (alone.seeds, alone.error) == (1, 0.0)


def test_a_row_may_bound_the_passes_against_the_strongest_reference() -> None:
    bounded = row(BUDGET, share=1 / 8)
    ours, theirs = result([None] * 4, forwards=100.0, backwards=100.0), result([None] * 4, forwards=900.0)
    assert "0.221 of the passes" in said(bounded, ours, theirs)
    assert said(bounded, ours, theirs | {"forwards": 1600.0}) == ""


def test_the_median_has_half_a_percent_of_room() -> None:
    theirs = result([1.0, 1.0, 1.0])
    assert said(row(MINIMUM), result([1.0, 1.004, 9.0]), theirs) == ""
    assert said(row(MINIMUM), result([1.0, 1.006, 1.01]), theirs) == "median 1.006 against 1 (1.006)"


def test_failures_are_infinite_mistakes_zero_and_a_lower_success_is_weaker_whatever_the_median() -> None:
    half = Figures.of(row(MINIMUM), result([1.0, None, None]))
    assert math.isinf(half.median)
    assert Figures.of(row(MINIMUM), result([1.0, 2.0], mistakes=3)).median == 0.0
    assert said(row(DISTANCE), result([0.1, 0.1, None]), result([1.0, 1.0, 1.0])) == "success 67% against 100%"


def test_failed_queries_count_as_all_that_could_be_spent() -> None:
    limited = row(QUERIES, limit=100)
    figures = Figures.of(limited, result([0.1, None], queries=[20, None]))
    assert (figures.mean, figures.middle, figures.success) == (60.0, 60.0, 0.5)
    theirs = result([0.1, 0.1], queries=[40, 60])
    assert said(limited, result([0.1, 0.1], queries=[40, 66]), theirs) == "mean of 53 queries against 50"
    assert said(limited, result([0.1, 0.1], queries=[40, 62]), theirs) == ""


def test_figures_survive_json() -> None:
    figures = Figures.of(row(MINIMUM), result([None, None, 0.5]))
    again = Figures.read(figures.plain())
    assert math.isinf(again.median) and math.isnan(again.mean)
    assert dataclasses.replace(again, mean=0, middle=0) == dataclasses.replace(
        figures, mean=0, middle=0, success=0.333333, robust=0.666667
    )


def kept(row: Row, **results: dict[str, Any]) -> dict[str, Any]:
    names = {"ours": ME.name, "theirs": PEER.name}
    return {names[who]: one | (Figures.of(row, one).plain() if "sizes" in one else {}) for who, one in results.items()}


def test_standing_says_what_is_missing_and_ignores_references_that_failed() -> None:
    one = row(MINIMUM)
    assert standing(one, {}) == "ours has not run"
    assert standing(one, kept(one, ours={"absent": "not in the table yet"})) == "not in the table yet"
    assert standing(one, kept(one, ours=result([1.0]), theirs={"failed": "not done after 1 s"})) == ""
    assert standing(one, kept(one, ours=result([2.0]), theirs=result([1.0]))) != ""


def test_a_reference_on_fewer_images_proves_nothing() -> None:
    other = Contender("art", "PGD")
    one = dataclasses.replace(row(MINIMUM), peers=(PEER, other))
    results = kept(one, ours=result([2.0, 2.0]), theirs=result([2.0, 2.0]))
    few = result([1.0])
    assert standing(one, results | {other.name: few | Figures.of(one, few).plain()}) == ""
    assert standing(one, kept(one, ours=result([2.0, 2.0]), theirs=few)) == ""


def test_the_page_marks_weaker_rows_failures_and_counts_that_disagree() -> None:
    one = row(MINIMUM, reportable=False)
    ours = result([2.0, 2.0]) | {"counts agree": False}
    results = kept(one, ours=ours, theirs=result([1.0, 1.0]))
    first, second = lines_of(one, results)
    assert "**weaker**: median 2 against 1" in first and "counts differ" in first and "not reportable" in first
    assert "weaker" not in second
    whole = page({one.name: one}, {one.name: {"results": results}})
    assert "- row@cnn: median 2 against 1" in whole and "holds in 0 of them" in whole
    failed = kept(one, ours=ours, theirs={"failed": "not done after 9 s"})
    assert "failed: not done after 9 s" in page({one.name: one}, {one.name: {"results": failed}})
