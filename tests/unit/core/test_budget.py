"""Budgets as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.budget import NORMALIZED, PIXEL, Budget, check_budget, parse_budget
from assay.core.errors import BadInput

QUICK = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("8/255", 8 / 255, PIXEL),
        (" 8 / 255 ", 8 / 255, PIXEL),
        ("0.031", 0.031, PIXEL),
        (".5", 0.5, PIXEL),
        ("3.", 3.0, PIXEL),
        ("1e-3", 1e-3, PIXEL),
        ("2E2", 200.0, PIXEL),
        ("+0.1", 0.1, PIXEL),
        ("0", 0.0, PIXEL),
        ("-0", 0.0, PIXEL),
        ("pixel 0.1", 0.1, PIXEL),
        ("normalized 0.02", 0.02, NORMALIZED),
        ("normalized  1/4", 0.25, NORMALIZED),
        ("1.5/255", 1.5 / 255, PIXEL),
        (0.031, 0.031, PIXEL),
        (2, 2.0, PIXEL),
        (0, 0.0, PIXEL),
    ],
)
def test_forms(text: str | float, value: float, unit: str) -> None:
    budget = parse_budget(text)
    assert (budget.value, budget.unit) == (value, unit)


def test_what_was_written_stays_written() -> None:
    assert parse_budget("8/255").written == "8/255"
    assert parse_budget(" normalized   0.02 ").written == "normalized 0.02"
    assert parse_budget(0.031).written == "0.031"
    assert parse_budget(3).written == "3"


def test_a_budget_passes_through() -> None:
    budget = Budget("8/255", 8 / 255)
    assert parse_budget(budget) is budget


@pytest.mark.parametrize(
    "bad",
    ["", "eps", "8/", "/255", "8//255", "8/255/2", "8 255", "1,5", "8/255 normalized", "normalised 1", "0x1", "nan"],
)
def test_text_that_is_no_budget(bad: str) -> None:
    refuse(bad)


@pytest.mark.parametrize("bad", ["inf", "1e", "--1", "1/-", "½", "1_000", "Normalized 1", "\n", "8/255\n8/255"])
def test_more_text_that_is_no_budget(bad: str) -> None:
    refuse(bad)


def refuse(bad: str) -> None:
    with pytest.raises(BadInput, match=r"is not a budget\. Write a budget as '8/255'"):
        parse_budget(bad)


@pytest.mark.parametrize("bad", [-1, -0.5, "-8/255", "8/-255", "-1e-9", -math.inf, "normalized -1"])
def test_a_negative_budget(bad: str | float) -> None:
    with pytest.raises(BadInput, match="negative; a budget is a size, 0 or more"):
        parse_budget(bad)


@pytest.mark.parametrize("bad", [math.nan, "0/0", "1/0", "1/0.0"])
def test_nan_and_division_by_zero(bad: str | float) -> None:
    with pytest.raises(BadInput, match=r"NaN|divides by zero"):
        parse_budget(bad)


@QUICK
@given(st.floats(0, 1e6), st.integers(1, 10**4))
def test_numbers_and_their_written_forms_agree(value: float, below: int) -> None:
    assert parse_budget(value).value == value
    assert parse_budget(str(value)).value == value
    assert parse_budget(f"{value!r}/{below}").value == value / below
    assert parse_budget(parse_budget(value).written) == parse_budget(value)


@QUICK
@given(st.text("0123456789./-+eE normalizedpxlNaNinf", max_size=14))
def test_any_text_is_a_budget_or_a_clear_error(text: str) -> None:
    try:
        budget = parse_budget(text)
    except BadInput as error:
        assert len(str(error)) > 20
    else:
        assert budget.value >= 0
        assert math.isfinite(budget.value)


def test_grey_levels() -> None:
    assert parse_budget("8/255").grey_levels() == pytest.approx(8)
    assert parse_budget("normalized 0.1").grey_levels([0.2, 0.4]) == pytest.approx(255 * 0.1 * 0.3)
    # the unit decides, not whether a std happens to be known
    assert parse_budget("8/255").grey_levels([0.2, 0.4]) == pytest.approx(8)
    with pytest.raises(BadInput, match="std is unknown"):
        parse_budget("normalized 0.1").grey_levels()


def test_a_slip_in_the_maximum_norm_is_seen() -> None:
    with pytest.raises(BadInput, match=r"8 is larger than the image range \[0, 1\]\. Did you mean 8/255\?"):
        check_budget(parse_budget(8), "linf")
    for fine in ("1", "normalized 8", math.inf):
        check_budget(parse_budget(fine), "linf")
    for norm in ("l2", "l1", "l0"):
        check_budget(parse_budget(8), norm)
