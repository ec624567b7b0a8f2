from __future__ import annotations

import dataclasses
from pathlib import Path

from assay.paper.compared import compared
from assay.paper.tables import CORRECTED, Row, TableView
from assay.statistics import wilson

ROW = Row("toaster", (48.69, 90.48), {CORRECTED: (50.0, None)}, {CORRECTED: ((10, 20), None)})


def interval(row: Row, column: int = 0) -> str:
    view = TableView("VII", "Success", "percent", ("32", "48"), (row,), {CORRECTED: Path("runs/vii")})
    ((_, entries),) = compared(view).rows
    return entries[column].measured[CORRECTED].interval


def test_intervals_are_those_of_the_counts_or_the_ones_that_are_given() -> None:
    low, high = wilson(10, 20)
    assert interval(ROW) == f"[{100 * low:.2f}–{100 * high:.2f}]"
    given = dataclasses.replace(ROW, intervals={CORRECTED: ((0.1176, 0.8824), None)})
    assert interval(given) == "[11.76–88.24]"
    assert interval(ROW, 1) == interval(given, 1) == ""
