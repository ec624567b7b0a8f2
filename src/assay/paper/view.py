"""What the paper's page shows: a table with its printed and measured numbers, and what stands beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

AS_PUBLISHED = "as_published"
CORRECTED = "corrected"
MODES = (AS_PUBLISHED, CORRECTED)
PRINTED = "printed"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: what was printed, and what was measured in each mode, column by column.

    A value is None where nothing was printed or nothing has been measured. `counts` holds (hits, n) of the measured
    values where they are shares; `intervals` (fractions) stand in for those of the counts where observations are not
    independent. `labels` holds the classes that the values belong to, by mode and under `PRINTED`,
    where the table names any.
    """

    name: str
    printed: tuple[float | None, ...]
    measured: Mapping[str, tuple[float | None, ...]]
    counts: Mapping[str, tuple[tuple[int, int] | None, ...]] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    intervals: Mapping[str, tuple[tuple[float, float] | None, ...]] = dataclasses.field(default_factory=dict)

    def images(self, mode: str) -> int | None:
        """Return on how many images it was measured in a mode, None where that is not known."""
        return next((count[1] for count in self.counts.get(mode, ()) if count is not None), None)


@dataclasses.dataclass(frozen=True)
class TableView:
    """One table of the paper. `number` is Roman; values are in `unit` ("percent" or "fraction").

    `runs` are the finished run directories by mode. `sentences` say in plain words where printed and measured differ,
    and why. `missing` says what to do about numbers that are not there ("" where nothing is missing). `stand_in` marks
    numbers of other networks and pictures, which cannot be compared with the printed ones. `axis` says what the
    columns are. `notes` say what stands behind rows that were not printed.
    """

    number: str
    title: str
    unit: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    runs: Mapping[str, Path]
    sentences: tuple[str, ...] = ()
    missing: str = ""
    stand_in: bool = False
    axis: str = ""
    notes: tuple[str, ...] = ()
