"""The units that nobody has, in a row, and what befell those that came back. This file knows no cluster.

A unit whose workers die is given up after some tries. One whose code raises is tried at one other place before that
counts: a node with a broken device, or without memory, would fail what others can do, and faster than they do it. A
place that goes on failing what others do ends the run by its name.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from assay.core.errors import AssayError
from assay.evaluation.cell import Unit
from assay.evaluation.executors.base import Failed

_DOUBTS = 3
_STARTING = 30.0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a worker is: what tells its place (a node, or one GPU of it) from others, and the node's name."""

    key: str = ""
    node: str = ""


NOWHERE = Place()
"""Where a worker is that has not said it yet."""


@dataclasses.dataclass(frozen=True)
class _Failure:
    place: Place
    answer: Failed
    when: float


class Row:
    """Units by their positions. Each is given to one worker at a time, and leaves the row when it is answered."""

    def __init__(self, units: Sequence[Unit], retries: int, log: Callable[[str], None]) -> None:
        self._units, self._retries, self._log = units, retries, log
        self._waiting = collections.deque(range(len(units)))
        self._deaths: collections.Counter[int] = collections.Counter()
        self._failures: dict[int, _Failure] = {}
        self._contradicted: collections.Counter[str] = collections.Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, place: Place) -> int | None:
        """Take the first unit that this place may do: it has not failed there."""
        for at in self._waiting:
            if at not in self._failures or self._failures[at].place.key != place.key:
                self._waiting.remove(at)
                return at
        return None

    def died(self, at: int, why: str, where: str) -> Failed | None:
        """Put a unit whose worker was lost first in the row again, or give it up."""
        self._deaths[at] += 1
        tries = self._deaths[at]
        self._log(f"{self._name(at)} lost its worker{where}: {why}")
        if tries > self._retries:
            return Failed(self._units[at], f"The worker process died ({why}), at each of {tries} tries.", died=True)
        self._waiting.appendleft(at)
        return None

    def failed(self, at: int, place: Place, answer: Failed) -> Failed | None:
        """Put a unit whose code raised first in the row for another place, or give it up where that was one."""
        if at in self._failures:
            del self._failures[at]
            return answer
        self._failures[at] = _Failure(place, answer, time.monotonic())
        self._waiting.appendleft(at)
        return None

    def done(self, at: int, place: Place) -> None:
        """Note that a place did a unit. Raises `AssayError` where another one goes on failing what others do."""
        self._contradicted.pop(place.key, None)
        failure = self._failures.pop(at, None)
        if failure is None:
            return
        bad, reason = failure.place, failure.answer.reason
        self._contradicted[bad.key] += 1
        self._log(f"{self._name(at)} failed on node {bad.node}, and not on node {place.node}: {reason}")
        if failure.answer.details:
            self._log(failure.answer.details)
        if self._contradicted[bad.key] >= _DOUBTS:
            raise AssayError(
                f"On node {bad.node}: {_DOUBTS} units one after another failed that others did, the last with: "
                f"{reason} Put that node right (its device, its memory, its libraries) or leave it out; what is "
                "finished is kept, and the same command continues."
            )

    def stuck(self, places: Collection[Place], *, starting: bool) -> Iterator[Failed]:
        """Give up units that failed once and that none of these places may do; `starting`: others may come yet."""
        keys, now = {place.key for place in places}, time.monotonic()
        for at, failure in list(self._failures.items()):
            if keys - {failure.place.key} or at not in self._waiting:
                continue
            if not starting or now - failure.when > _STARTING:
                self._waiting.remove(at)
                del self._failures[at]
                yield failure.answer

    def _name(self, at: int) -> str:
        return f"cell {self._units[at].cell.digest} chunk {self._units[at].chunk}"
