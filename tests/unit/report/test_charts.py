from __future__ import annotations

import dataclasses
import json

import pytest

from assay.evaluation.run import Run
from assay.report import charts
from assay.report import theme as look
from assay.report.breakdown import breakdown
from assay.report.groups import Group


def rows_of(spec: dict) -> list[dict]:  # type: ignore[type-arg]
    data = spec.get("data") or spec["layer"][0]["data"]
    rows: list[dict] = data["values"] if "values" in data else spec["datasets"][data["name"]]  # type: ignore[type-arg]
    return rows


def test_the_curve_has_every_result_and_starts_at_no_change(digits: Group) -> None:
    rows = rows_of(charts.curve(digits))
    for line in digits.shown:  # every one has the smallest budget, or begins at no change itself
        mine = {row["eps"]: row["accuracy"] for row in rows if row["attack"] == line.label}
        assert mine == {0.0: digits.first.clean_accuracy} | {r.eps: r.robust_accuracy for r in line.results}
    assert {row["attack"] for row in rows if row["worst"]} == {"worst case"}
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in rows)


def test_grey_levels_stand_above_and_eps_as_written_below(digits: Group, scenes: Group) -> None:
    text = json.dumps(charts.curve(digits))
    assert "grey levels (of 255)" in text and "0.007" in text and "square-root" in text
    assert "normalised units" in json.dumps(charts.curve(scenes))


def test_other_norms_have_no_grey_levels(digits: Group) -> None:
    text = json.dumps(charts.curve(dataclasses.replace(digits, threat="l2")), ensure_ascii=False)
    assert "grey levels" not in text and "eps (L₂" in text


def test_in_the_page_colours_are_the_pages_own(digits: Group) -> None:
    assert "var(--accent)" in json.dumps(charts.curve(digits))
    assert "var(" not in json.dumps(charts.curve(digits, look.IN_FILE))


def test_the_worst_case_takes_the_accent_and_attacks_take_others(digits: Group) -> None:
    entries = charts.legend(digits)
    assert [entry["label"] for entry in entries if entry["worst"]] == ["worst case"]
    assert len({(entry["place"], entry["shape"]) for entry in entries}) == len(entries)


@pytest.mark.parametrize("draw", [charts.per_class, charts.confusion])
def test_a_choice_picks_the_rows(run: Run, digits: Group, draw) -> None:  # type: ignore[no-untyped-def]
    found = breakdown(run, digits)
    assert found is not None
    spec = draw(found)
    assert "datum.choice == choice" in json.dumps(spec)
    assert {"name": "choice", "value": found.default} in spec["params"]
    assert len(rows_of(spec)) <= 5000


def test_a_line_that_skips_the_small_budgets_does_not_pretend_to_know_them(digits: Group) -> None:
    late = dataclasses.replace(digits.lines[1], results=digits.lines[1].results[-3:])
    one = dataclasses.replace(digits.lines[2], results=digits.lines[2].results[-1:])
    group = dataclasses.replace(digits, lines=(digits.lines[0], late, one), worst=None)
    rows = rows_of(charts.curve(group))
    assert [row["eps"] for row in rows if row["attack"] == late.label] == [0.1, 0.2, 0.3]
    assert [row["lone"] for row in rows if row["attack"] == one.label] == [True]
    assert not any(row["lone"] for row in rows if row["attack"] != one.label)
