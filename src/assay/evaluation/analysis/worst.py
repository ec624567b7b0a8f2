"""The worst case over attacks, sample by sample, merged piece by piece: what is kept is one entry per sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.evaluation.analysis.rejection import Refusals
from assay.evaluation.analysis.tallies import (
    CODE,
    COUNTS,
    SPENT,
    Rows,
    Tallies,
    constants,
    count,
    groups,
    texts,
)
from assay.evaluation.records.schema import (
    BROKEN,
    CERTIFIED,
    CLEAN_REJECTED,
    CLEAN_WRONG,
    ERROR,
    EXCLUDED,
    REJECTED,
    STATUSES,
    SURVIVED,
)

Array = NDArray[Any]

WORST_CASE = "worst case"
MERGED_BY = ("model", "data", "threat", "unit", "eps", "question", "goal")
"""What is equal in records whose worst case is one number."""

BYTES_PER_SAMPLE = 50
"""What is kept of a sample at one budget."""

# of several attacks on a sample the first of these holds; an unknown outcome is not a survival
_WORST = (EXCLUDED, CLEAN_WRONG, CLEAN_REJECTED, BROKEN, ERROR, REJECTED, SURVIVED, CERTIFIED)
_SEVERITY = np.array([_WORST.index(status) for status in STATUSES], np.uint8)
_STATUS = np.array([CODE[status] for status in _WORST], np.int64)
_FIELDS = ("known", "right", "fooled", "passed")


class Worst:
    """The worst cases of records: one per value of `MERGED_BY`, in order of appearance."""

    def __init__(self, offsets: Mapping[str, float | None] | None = None) -> None:
        """Count none; `offsets` are those of the thresholds of models that refuse images, by label."""
        self._offsets = offsets or {}
        self._tallies = Tallies(MERGED_BY)
        self._samples: dict[str, int] = {}
        self._merged: dict[int, _Merged] = {}

    def add(self, records: pa.Table) -> None:
        """Merge a piece of the records; it needs `sample_id` too."""
        if not records.num_rows:
            return
        group, first = groups(records, MERGED_BY)
        mine = [self._tallies.of(row) for row in constants(records, first)]
        rows = Rows.of(records, group, tuple(dict.fromkeys(one.norm for one in mine)), self._offsets)
        samples, (cell, cells) = self._codes(records), texts(records, "cell")
        order = np.argsort(group, kind="stable")
        ends = np.searchsorted(group[order], np.arange(len(mine) + 1))
        for at, one in enumerate(mine):
            where = order[ends[at] : ends[at + 1]]
            merged = self._merged.setdefault(id(one), _Merged(one.norm))
            merged.cells.update(cells[code] for code in np.flatnonzero(np.bincount(cell[where])))
            merged.add(samples[where], len(self._samples), rows.taken(where))

    def _codes(self, records: pa.Table) -> Array:
        codes, ids = texts(records, "sample_id")
        known = self._samples
        return np.array([known.setdefault(one, len(known)) for one in ids], np.int64)[codes]

    def done(self) -> Tallies:
        """Return the tallies: those of samples that every attack has met."""
        for one in self._tallies.found:
            merged = self._merged.pop(id(one))
            count([one], merged.complete())
            many = len(merged.cells)
            attack = f"{WORST_CASE} of {many}" if many > 1 else one.constants["attack"]
            one.constants.update(cell="", attack=attack)
        return self._tallies


class _Merged:
    """The merged rows of one number, by the place of their sample."""

    def __init__(self, norm: str) -> None:
        self.cells: set[str] = set()
        self._norm = norm
        self._worst = np.zeros(0, np.uint8)
        self._times, self._rank = np.zeros(0, np.int32), np.zeros(0, np.int32)
        self._size = np.zeros(0, np.float32)
        self._spent: dict[str, Array] = {
            name: np.zeros(0, np.int64 if name in COUNTS else np.float64) for name in SPENT
        }
        self._refusals: dict[str, Array] | None = None

    def add(self, at: Array, samples: int, rows: Rows) -> None:
        """Merge rows of one piece, of the samples at the places `at`; there are so many `samples` by now."""
        self._grow(samples)
        np.minimum.at(self._worst, at, _SEVERITY[rows.status])
        np.add.at(self._times, at, 1)
        np.maximum.at(self._rank, at, rows.rank.astype(np.int32))
        broken = rows.status == CODE[BROKEN]
        np.fmin.at(self._size, at[broken], rows.sizes[self._norm][broken])
        for name, values in rows.spent.items():
            np.add.at(self._spent[name], at, values)
        if rows.refusals is not None:
            if self._refusals is None:
                self._refusals = {name: np.zeros(len(self._worst), bool) for name in _FIELDS}
            for name in _FIELDS:
                self._refusals[name][at[getattr(rows.refusals, name)]] = True

    def _grow(self, samples: int) -> None:
        if samples <= len(self._worst):
            return
        # by half again at least, or every piece would copy all there is
        more = max(samples - len(self._worst), len(self._worst) // 2)
        self._worst = np.concatenate([self._worst, np.full(more, len(_WORST), np.uint8)])
        self._size = np.concatenate([self._size, np.full(more, np.inf, np.float32)])
        self._times, self._rank = (np.concatenate([one, np.zeros(more, np.int32)]) for one in (self._times, self._rank))
        self._spent = {name: np.concatenate([one, np.zeros(more, one.dtype)]) for name, one in self._spent.items()}
        if self._refusals is not None:
            self._refusals = {name: np.concatenate([one, np.zeros(more, bool)]) for name, one in self._refusals.items()}

    def complete(self) -> Rows:
        """Return one row per sample that every attack has met once."""
        keep = np.flatnonzero(self._times == len(self.cells))
        refusals = self._refusals
        return Rows(
            np.zeros(len(keep), np.int64),
            _STATUS[self._worst[keep]],
            self._rank[keep],
            {self._norm: self._size[keep]},
            {name: values[keep] for name, values in self._spent.items()},
            None if refusals is None else Refusals(*(refusals[name][keep] for name in _FIELDS)),
        )


def merged(pieces: Iterable[pa.Table], offsets: Mapping[str, float | None] | None = None) -> Tallies:
    """Return the worst cases of records that come in pieces."""
    worst = Worst(offsets)
    for piece in pieces:
        worst.add(piece)
    return worst.done()


__all__ = ["BYTES_PER_SAMPLE", "MERGED_BY", "WORST_CASE", "Worst", "merged"]
