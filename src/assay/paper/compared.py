"""A table as the page shows it: printed, measured in each mode, and how far apart they are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from assay import wording as words
from assay.paper.tables import MODES, PRINTED, Row, TableView
from assay.statistics import wilson

TITLES = {
    "I": "Error without an attack",
    "II": "Five likeliest classes without an attack, ResNet-101",
    "III": "Five likeliest classes under FGSM at eps 0.02, ResNet-101",
    "IV": "Error under FGSM, ResNet-101",
    "V": "Error under FGSM, AlexNet",
    "VI": "Error under FGSM, RegNetY-400MF",
    "VII": "Success of patches, ResNet-101, top 1",
    "VIII": "Success of patches, ResNet-101, top 5",
    "IX": "Success of patches, AlexNet, top 1",
    "X": "Success of patches, AlexNet, top 5",
    "XI": "Success of patches, RegNetY-400MF, top 1",
    "XII": "Success of patches, RegNetY-400MF, top 5",
    "XIII": "Accuracy under FGSM, MNIST network",
    "XIV": "Accuracy under FGSM, distilled MNIST network",
}
_LEAST_SCALE = 5.0  # points: bars of smaller differences stay small
_PERCENT = "percent"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value in words, its interval, its class where it has one, and its difference from the printed one.

    `points` is measured minus printed in percentage points, `start` and `width` place its bar in 0 to 100, where 50 is
    no difference.
    """

    text: str
    interval: str = ""
    label: str = ""
    points: float | None = None
    start: float = 50.0
    width: float = 0.0

    @property
    def difference(self) -> str:
        """The difference in words."""
        if self.points is None:
            return ""
        # a minus as long as the plus
        return "0.0" if abs(self.points) < 0.05 else f"{self.points:+.1f}".replace("-", "\u2212")

    @property
    def sign(self) -> str:
        """Whether the measured value is `higher` or `lower`."""
        return "higher" if (self.points or 0) > 0 else "lower"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One column of one row: its name, the printed value, and the measured ones by mode."""

    column: str
    printed: Cell
    measured: Mapping[str, Cell]


Lines = tuple[str, tuple[Entry, ...]]


@dataclasses.dataclass(frozen=True)
class Compared:
    """A table with everything in words. `modes` are those in which anything was measured; `scale` is in points.

    `rows` were measured, `unmeasured` ones only printed. `both` says that one run serves both modes, and stands under
    the first.
    """

    view: TableView
    modes: tuple[str, ...]
    rows: tuple[Lines, ...]
    unmeasured: tuple[Lines, ...]
    scale: float
    both: bool

    @property
    def named(self) -> bool:
        """Whether the values belong to classes with names."""
        return any(row.labels for row in self.view.rows)

    @property
    def prints(self) -> bool:
        """Whether any of the measured rows was printed."""
        return any(entry.printed.text != words.EM_DASH for _, row in self.rows for entry in row)

    @property
    def has_printed(self) -> bool:
        """Whether any difference from a printed value is shown."""
        return any(cell.points is not None for _, row in self.rows for one in row for cell in one.measured.values())


def compared(view: TableView, printed_alone: bool = False) -> Compared:
    """Return a table as the page shows it. Nothing is compared in a stand-in.

    `printed_alone` leaves out the rows that the paper does not print.
    """
    if printed_alone:
        view = dataclasses.replace(view, rows=tuple(row for row in view.rows if any(map(known, row.printed))))
    modes = tuple(
        mode for mode in MODES if any(known(value) for row in view.rows for value in row.measured.get(mode, ()))
    )
    largest = max(
        (abs(points) for row in view.rows for mode in modes for points in _points(view, row, mode)), default=0
    )
    scale = max(_LEAST_SCALE, math.ceil(largest / 5) * 5)
    both = len(modes) > 1 and len({view.runs.get(mode, mode) for mode in modes}) == 1
    modes = modes[:1] if both else modes
    rows: list[Lines] = []
    unmeasured: list[Lines] = []
    for row in view.rows:
        found = any(known(value) for mode in modes for value in row.measured.get(mode, ()))
        (rows if found else unmeasured).append((row.name, _entries(view, row, modes, scale)))
    return Compared(view, modes, tuple(rows), tuple(unmeasured), scale, both)


def known(value: float | None) -> bool:
    """Return whether there is a number."""
    return value is not None and math.isfinite(value)


def _entries(view: TableView, row: Row, modes: tuple[str, ...], scale: float) -> tuple[Entry, ...]:
    entries = []
    for at, column in enumerate(view.columns):
        printed = Cell(written(_at(row.printed, at), view.unit), label=_label(row, PRINTED, at))
        measured = {mode: _cell(view, row, mode, at, scale) for mode in modes}
        if any(known(value) for value in (_at(row.printed, at), *(_at(row.measured.get(m, ()), at) for m in modes))):
            entries.append(Entry(column, printed, measured))
    return tuple(entries)


def _cell(view: TableView, row: Row, mode: str, at: int, scale: float) -> Cell:
    value = _at(row.measured.get(mode, ()), at)
    limits, span = _limits(row, mode, at), ""
    if limits is not None:
        low, high = (limit * (100 if view.unit == _PERCENT else 1) for limit in limits)
        span = f"[{written(low, view.unit)}–{written(high, view.unit)}]"
    points = _difference(view, row, mode, at)
    far = 0.0 if points is None else 50 * min(1.0, abs(points) / scale)
    start = 50.0 - far if points is not None and points < 0 else 50.0
    return Cell(written(value, view.unit), span, _label(row, mode, at), points, start, far)


def _limits(row: Row, mode: str, at: int) -> tuple[float, float] | None:
    counts, spans = row.counts.get(mode, ()), row.intervals.get(mode, ())
    if at < len(spans):
        return spans[at]
    count = counts[at] if at < len(counts) else None
    return wilson(*count) if count is not None and count[1] else None


def _points(view: TableView, row: Row, mode: str) -> list[float]:
    found = [_difference(view, row, mode, at) for at in range(len(view.columns))]
    return [points for points in found if points is not None]


def _difference(view: TableView, row: Row, mode: str, at: int) -> float | None:
    printed, value = _at(row.printed, at), _at(row.measured.get(mode, ()), at)
    if view.stand_in or printed is None or value is None or not (math.isfinite(printed) and math.isfinite(value)):
        return None
    # shares of two different classes are not two measurements of one thing
    if _label(row, PRINTED, at) != _label(row, mode, at):
        return None
    return (value - printed) * (1 if view.unit == _PERCENT else 100)


def _label(row: Row, which: str, at: int) -> str:
    labels = row.labels.get(which, ())
    return labels[at] if at < len(labels) else ""


def _at(values: tuple[float | None, ...], at: int) -> float | None:
    return values[at] if at < len(values) else None


def written(value: float | None, unit: str) -> str:
    """Write a value as the paper does: percent with two decimals, fractions with four."""
    if value is None or not math.isfinite(value):
        return words.EM_DASH
    return f"{value:.2f}" if unit == _PERCENT else f"{value:.4f}"


def largest_difference(views: tuple[TableView, ...], mode: str) -> tuple[TableView, Row, str, float] | None:
    """Return where a mode is furthest from print: table, row, column, points; None where nothing can be compared."""
    found = [
        (view, row, view.columns[at], points)
        for view in views
        for row in view.rows
        for at in range(len(view.columns))
        if (points := _difference(view, row, mode, at)) is not None
    ]
    return max(found, key=lambda one: abs(one[3]), default=None)
