from __future__ import annotations

import math

import pytest

from assay import wording as words


@pytest.mark.parametrize(
    ("share", "n", "written"),
    [(0.976, 1000, "97.6\u00a0%"), (0.85, 20, "85\u00a0%"), (1.0, 1000, "100.0\u00a0%"), (0.0, 99, "0\u00a0%")],
)
def test_percentages_carry_as_many_digits_as_were_measured(share: float, n: int, written: str) -> None:
    assert words.percent(share, n) == written


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_no_number_is_a_dash_and_never_a_zero(nothing: float | None) -> None:
    assert words.percent(nothing, 1000) == words.size(nothing) == words.EM_DASH
    assert words.interval(nothing, 0.5, 1000) == ""


def test_intervals_are_in_percent() -> None:
    assert words.interval(0.965, 0.984, 1000) == "[96.5–98.4]"
    assert words.interval(0.64, 0.95, 20) == "[64–95]"


@pytest.mark.parametrize(("levels", "written"), [(4.0, "4"), (1.785, "1.8"), (76.5, "76.5"), (127.5, "128"), (0, "0")])
def test_grey_levels_keep_the_digits_that_matter(levels: float, written: str) -> None:
    assert words.grey(levels) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.44, "0.4 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (192, "3 min 12 s"), (7500, "2 h 05 min")],
)
def test_times_are_written_for_people(seconds: float, written: str) -> None:
    assert words.duration(seconds) == written


def test_long_names_are_cut_in_their_middle() -> None:
    name = "folder:/home/somebody/pictures/of/last/summer/by/the/sea/and/more"
    cut = words.short(name, 21)
    assert len(cut) == 21 and cut.startswith("folder:/ho") and cut.endswith("s/and/more"[-5:]) and "…" in cut
    assert words.short("mnist/test", 21) == "mnist/test"


def test_budgets_lose_their_unit_but_not_their_form() -> None:
    assert [words.bare(text) for text in ("8/255", "normalized 0.02", "pixel 0.1")] == ["8/255", "0.02", "0.1"]


@pytest.mark.parametrize(("levels", "named"), [(4, "imperceptible"), (8, "barely visible"), (9, "visible")])
def test_changes_are_named_by_how_visible_they_are(levels: float, named: str) -> None:
    assert words.seen(levels) == named


def test_counts_agree_with_their_noun() -> None:
    assert (words.plural(1, "image"), words.plural(1000, "image")) == ("1 image", "1,000 images")
