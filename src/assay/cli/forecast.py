"""How long a run still takes, when models differ in speed and attacks stop early."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.evaluation.cell import Cell, Unit
    from assay.evaluation.cost import Speed


class Forecast:
    """Expects times from the speeds of the models, and corrects them cell by cell by what is observed."""

    def __init__(
        self,
        units: Sequence[Unit],
        todo: Sequence[Unit],
        speeds: Mapping[str, Speed],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Forecast the units `todo` of all `units`; models without a speed count as fast as the slowest known one."""
        self._clock = clock
        self._cells = {unit.cell.digest: unit.cell for unit in units}
        self._left = Counter(unit.cell.digest for unit in todo)
        self._expected = {digest: _expected(cell, speeds) for digest, cell in self._cells.items()}
        self._whole = sum(self._expected[unit.cell.digest] for unit in units)
        self._observed: dict[str, list[float]] = {}
        self._then = clock()

    def finished(self, cell: Cell) -> None:
        """Note that a unit of `cell` is finished."""
        now = self._clock()
        self._left[cell.digest] -= 1
        self._observed.setdefault(cell.digest, []).append(now - self._then)
        self._then = now

    @property
    def share(self) -> float:
        """The finished part of the expected work, earlier runs included: 0 to 1."""
        left = sum(self._expected[digest] * count for digest, count in self._left.items())
        # rounding must not show as -0 %
        return max(0.0, 1 - left / self._whole) if self._whole else 1.0

    @property
    def seconds_left(self) -> float | None:
        """The seconds left, or None before anything was observed."""
        if not self._observed:
            return None
        spent = sum(sum(times) for times in self._observed.values())
        expected = sum(self._expected[digest] * len(times) for digest, times in self._observed.items())
        return sum(count * self._per_unit(digest, spent / expected) for digest, count in self._left.items())

    def _per_unit(self, digest: str, correction: float) -> float:
        observed = self._observed.get(digest)
        return sum(observed) / len(observed) if observed else self._expected[digest] * correction


def _expected(cell: Cell, speeds: Mapping[str, Speed]) -> float:
    """Return the seconds a unit of `cell` should take; any unit of time, where no speed is known."""
    from assay.evaluation.cost import Speed, passes_per_sample

    slowest = max(speeds.values(), key=lambda speed: speed.forward, default=Speed(1.0, 2.0))
    speed = speeds.get(cell.model.label, slowest)
    return speed.seconds(passes_per_sample(cell)) * cell.n / cell.chunks
