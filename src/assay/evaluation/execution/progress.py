"""How far a run is, for whoever shows it. Nothing is printed in this room."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from assay.evaluation.asked import Budget
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.cost import Speed
from assay.evaluation.executors.base import Done
from assay.evaluation.passes import passes_per_sample
from assay.meter import Meter

ATTACK, AUDIT = "attack", "audit"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    `units` and `records` count what is finished of `units_planned` and `records_planned`, shards of earlier runs
    included; `share` is the finished part of the expected work, 0 to 1. Passes, `seconds` and `errors` are this
    run's own; `remaining` seconds are unknown until the first unit is done. `cell` is the one last worked on, and
    `cell_finished` says that nothing is left of it. `stage` is "attack", then "audit" where the run is audited; `doing`
    says what is being done there, and `share` and `remaining` are those of both. `endpoints` say what was asked of
    them, and what is allowed.
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
    cell_finished: bool = False
    stage: str = ATTACK
    doing: str = ""
    endpoints: tuple[Budget, ...] = ()


OnProgress = Callable[[Progress], None]


class Tally:
    """Counts what is done, and says how far a run is."""

    def __init__(
        self,
        units: Sequence[Unit],
        todo: Sequence[Unit],
        speeds: Mapping[str, Speed] | None = None,
        meter: Meter | None = None,
        asked: Callable[[], Sequence[Budget]] = tuple,
    ) -> None:
        """Count towards all `units`, of which `todo` are left; `speeds` are those of the models, by label.

        `meter` may expect other work beside the units; `asked` returns what endpoints were asked.
        """
        self._asked = asked
        self._began = time.monotonic()
        cells = {unit.cell.digest: unit.cell for unit in units}
        self._per_sample = {digest: expected(cell, speeds or {}) for digest, cell in cells.items()}
        self._chunks_left = Counter(unit.cell.digest for unit in todo)
        self._meter = meter or Meter()
        left = self._of(todo)
        for digest, whole in self._of(units).items():
            self._meter.expect(digest, whole, left.get(digest, 0.0))
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
        digest = done.unit.cell.digest
        # workers take seconds to start: the pace counts from the first unit's beginning
        self._meter.add(digest, self._of([done.unit])[digest], took=done.seconds)
        self._chunks_left[digest] -= 1
        self._counts["units"] += 1
        self._counts["records"] += done.unit.rows
        for name in ("forwards", "backwards", "errors"):
            self._counts[name] += getattr(done, name)

    @property
    def units(self) -> tuple[int, int]:
        """How many units are done, of how many."""
        return self._counts["units"], self._counts["units_planned"]

    @property
    def errors(self) -> int:
        """Samples that could not be evaluated, in this run."""
        return self._counts["errors"]

    def read(self, cell: Cell | None = None) -> Progress:
        """Return how far the run is now."""
        return Progress(
            **self._counts,  # type: ignore[arg-type]  # the counts alone
            seconds=time.monotonic() - self._began,
            remaining=self._meter.seconds_left,
            share=self._meter.share,
            cell=cell,
            cell_finished=cell is not None and self._chunks_left[cell.digest] == 0,
            endpoints=tuple(self._asked()),
        )

    def _of(self, units: Sequence[Unit]) -> dict[str, float]:
        amounts: dict[str, float] = {}
        for unit in units:
            digest = unit.cell.digest
            amount = self._per_sample[digest] * len(unit.cell.positions(unit.chunk))
            amounts[digest] = amounts.get(digest, 0.0) + amount
        return amounts


def expected(cell: Cell, speeds: Mapping[str, Speed]) -> float:
    """Return the seconds that a sample of `cell` should take; any unit of time, where no speed is known.

    Models without a speed count as fast as the slowest known one.
    """
    slowest = max(speeds.values(), key=lambda speed: speed.forward, default=Speed(1.0, 2.0))
    return speeds.get(cell.model.label, slowest).seconds(passes_per_sample(cell))
