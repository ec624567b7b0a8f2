"""Numbers of large runs, kept beside the records that they were counted from, and believed while these are the same.

Records stay the only truth: numbers are named by the files they come from (inode, size and time of change), by the code
that counted them, and by whatever else they depend on. Under another name nothing is found, and all is counted again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import assay.core.budget
import assay.statistics
from assay.core.errors import AssayError
from assay.evaluation.analysis import rejection, scan, score, tallies, worst
from assay.evaluation.analysis.rejection import Rejection
from assay.evaluation.analysis.score import Result
from assay.evaluation.records import schema, shards
from assay.files import write_atomically

NUMBERS = "numbers.json"
LEAST = 1 << 18
"""So many bytes of records are counted each time: that takes no longer than to look here."""

State = Sequence[tuple[str, int, int, int]]


@dataclasses.dataclass(frozen=True)
class KeptNumbers:
    """The numbers kept in a run directory."""

    folder: Path

    def or_else(self, count: Callable[[], list[Result]], kind: str, state: State, about: object) -> list[Result]:
        """Return the numbers of a `kind` that come from files in a `state`, kept or counted now.

        `about` is what else they depend on, as plain values.
        """
        if sum(size for _, _, size, _ in state) < LEAST:
            return count()
        name = _name(kind, state, about)
        found = self._all.get(name)
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            if found is not None:
                return [_result(one) for one in found]
        counted = count()
        self._all[name] = [dataclasses.asdict(one) for one in counted]
        self._new.add(name)
        return counted

    @functools.cached_property
    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / NUMBERS).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @functools.cached_property
    def _new(self) -> set[str]:
        return set()

    def keep(self, most: int) -> None:
        """Keep what was counted now, and at most so many numbers in all: older ones go first.

        Where that cannot be written, it will be counted again.
        """
        if not self._new:
            return
        names = list(self._all)[-most:]
        told = json.dumps({name: self._all[name] for name in names})
        self._new.clear()
        with contextlib.suppress(AssayError):
            write_atomically(self.folder / NUMBERS, told.encode())


def _result(plain: dict[str, Any]) -> Result:
    told = plain["rejection"]
    return Result(**{**plain, "rejection": None if told is None else Rejection(**told)})


def _name(kind: str, state: State, about: object) -> str:
    told = json.dumps([kind, _code(), [[Path(path).name, *rest] for path, *rest in state], about], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


@functools.cache
def _code() -> str:
    counting = (assay.core.budget, assay.statistics, rejection, scan, schema, score, shards, tallies, worst)
    files = [Path(str(module.__file__)) for module in counting]
    return hashlib.blake2b(b"".join(path.read_bytes() for path in files), digest_size=16).hexdigest()
