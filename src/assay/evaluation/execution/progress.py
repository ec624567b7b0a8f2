"""How far a run is, for whoever shows it. Nothing is printed in this room."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

from assay.core.compose import Passes
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.cost import passes_per_sample
from assay.evaluation.executors.base import Done


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    `units` and `records` count what is finished of `units_planned` and `records_planned`, shards of earlier runs
    included; `share` is the finished part of the expected work, 0 to 1. Passes, `seconds` and `errors` are this
    run's own; `remaining` seconds are unknown until the first unit is done. `cell` is the one last worked on.
    """

    units: int
    units_planned: int
    records: int
    records_planned: int
    forwards: int
    backwards: int
    errors: int
    seconds: float
    remaining: float | None
    share: float
    cell: Cell | None


OnProgress = Callable[[Progress], None]


class Meter:
    """Counts what is done, and weighs units by the passes they are expected to take."""

    def __init__(
        self, units: Sequence[Unit], todo: Sequence[Unit], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._began = self._first = clock()
        cells = {unit.cell.digest: unit.cell for unit in units}
        self._passes: Mapping[str, Passes] = {digest: passes_per_sample(cell) for digest, cell in cells.items()}
        self._weight = sum(self._of(unit) for unit in units)
        self._before = self._weight - sum(self._of(unit) for unit in todo)
        self._done = 0
        self._counts = {
            "units": len(units) - len(todo),
            "units_planned": len(units),
            "records": sum(unit.rows for unit in units) - sum(unit.rows for unit in todo),
            "records_planned": sum(unit.rows for unit in units),
            "forwards": 0,
            "backwards": 0,
            "errors": 0,
        }

    def add(self, done: Done) -> None:
        """Count a finished unit."""
        if not self._done:
            # workers take seconds to start: the pace counts from the first unit's beginning
            self._first = self._clock() - done.seconds
        self._done += self._of(done.unit)
        self._counts["units"] += 1
        self._counts["records"] += done.unit.rows
        for name in ("forwards", "backwards", "errors"):
            self._counts[name] += getattr(done, name)

    @property
    def errors(self) -> int:
        """Samples that could not be evaluated, in this run."""
        return self._counts["errors"]

    def read(self, cell: Cell | None = None) -> Progress:
        """Return how far the run is now."""
        now = self._clock()
        left = self._weight - self._before - self._done
        remaining = (now - self._first) * left / self._done if self._done else None
        share = (self._before + self._done) / self._weight if self._weight else 1.0
        return Progress(**self._counts, seconds=now - self._began, remaining=remaining, share=share, cell=cell)

    def _of(self, unit: Unit) -> int:
        return self._passes[unit.cell.digest].weight * len(unit.cell.positions(unit.chunk))
