"""Records counted piece by piece: what a number needs of them, and nothing more is kept.

Every sum is taken in the order of the records, so that it comes out the same to the bit, however they are cut.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.evaluation.analysis.rejection import Refusals
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.schema import BROKEN, CLEAN_REJECTED, STATUSES, UNCOUNTED
from assay.vocabulary import Norm

Array = NDArray[Any]

CONSTANT = (
    "cell", "model", "data", "attack", "threat", "eps", "eps_written", "unit", "question", "goal", "seed",
)  # fmt: skip
COUNTS = ("forwards", "backwards", "queries")
SPENT = (*COUNTS, "seconds")
SIZES = tuple(f"size_{name}" for name in Norm)

CODE = {status: code for code, status in enumerate(STATUSES)}
_COUNTED = ~np.isin(np.arange(len(STATUSES)), [CODE[status] for status in UNCOUNTED])


@dataclasses.dataclass(frozen=True)
class Rows:
    """What is counted, one entry per row; `group` says which number a row belongs to. Of sizes those asked for."""

    group: Array
    status: Array
    rank: Array
    sizes: Mapping[str, Array]
    spent: Mapping[str, Array]
    refusals: Refusals | None = None

    @staticmethod
    def of(records: pa.Table, group: Array, sizes: Sequence[str], offsets: Mapping[str, float | None]) -> Rows:
        """Return the rows of a table, with the columns `sizes`."""
        codes, names = texts(records, "status")
        return Rows(
            group,
            np.array([CODE[name] for name in names], np.int64)[codes],
            numbers(pc.fill_null(records["rank"], 0)),
            {name: numbers(pc.fill_null(records[name], math.nan)) for name in sizes},
            {name: numbers(records[name]) for name in SPENT},
            Refusals.of(records, offsets),
        )

    def taken(self, keep: Array) -> Rows:
        """Return the rows where `keep`."""
        return Rows(
            self.group[keep],
            self.status[keep],
            self.rank[keep],
            {name: values[keep] for name, values in self.sizes.items()},
            {name: values[keep] for name, values in self.spent.items()},
            None if self.refusals is None else self.refusals.taken(keep),
        )


@dataclasses.dataclass
class Tally:
    """What is known of one number: its `constants` as its first record has them, and what was counted.

    `beyond` are those counted whose rank is above 1 and above 5, `sizes` those of the successes. Of a model that may
    refuse images, `may_refuse`: `right_refused` are the clean ones that it refuses though its classes are right,
    `fooled` and `passed` as in `Refusals`.
    """

    constants: dict[str, Any]
    statuses: Array = dataclasses.field(default_factory=lambda: np.zeros(len(STATUSES), np.int64))
    beyond: dict[int, int] = dataclasses.field(default_factory=lambda: {1: 0, 5: 0})
    spent: dict[str, Any] = dataclasses.field(default_factory=lambda: dict.fromkeys(SPENT, 0))
    sizes: list[Array] = dataclasses.field(default_factory=list)
    may_refuse: bool = False
    right_refused: int = 0
    fooled: int = 0
    passed: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The rows by status."""
        return dict(zip(STATUSES, self.statuses.tolist(), strict=True))

    @property
    def norm(self) -> str:
        """The column of the size that counts."""
        return f"size_{str(self.constants['threat']).split()[0]}"

    @property
    def median_size(self) -> float | None:
        """The median size of the successes; None where there are none."""
        found = np.concatenate(self.sizes) if self.sizes else np.zeros(0)
        return float(np.median(found)) if len(found) else None


class Tallies:
    """The tallies of records: one per value of the columns `by`, in order of appearance."""

    def __init__(self, by: Sequence[str], offsets: Mapping[str, float | None] | None = None) -> None:
        """Tell records apart `by` these columns; `offsets` are those of the thresholds of models, by label."""
        self._by, self._offsets = by, offsets or {}
        self._place: dict[tuple[Any, ...], int] = {}
        self.found: list[Tally] = []

    def add(self, records: pa.Table) -> None:
        """Count a piece of the records."""
        if not records.num_rows:
            return
        group, first = groups(records, self._by)
        mine = [self.of(row) for row in constants(records, first)]
        needed = tuple(dict.fromkeys(one.norm for one in mine))
        count(mine, Rows.of(records, group, needed, self._offsets))

    def of(self, row: Mapping[str, Any]) -> Tally:
        """Return the tally of what a record says; a new one where it is the first."""
        place = self._place.setdefault(tuple(row[name] for name in self._by), len(self.found))
        if place == len(self.found):
            self.found.append(Tally({name: row[name] for name in CONSTANT}))
        return self.found[place]


def count(mine: Sequence[Tally], rows: Rows) -> None:
    """Count rows, each in the tally at the place of its group."""
    n, group, kinds = len(mine), rows.group, len(STATUSES)
    by_status = np.bincount(group * kinds + rows.status, minlength=n * kinds).reshape(n, kinds)
    counted = _COUNTED[rows.status]
    beyond = {k: np.bincount(group[counted & (rows.rank > k)], minlength=n) for k in (1, 5)}
    # whole numbers as float64 are exact to 2^53
    whole = {name: np.bincount(group, rows.spent[name], n) for name in COUNTS}
    seconds = np.array([one.spent["seconds"] for one in mine], np.float64)
    np.add.at(seconds, group, rows.spent["seconds"])
    for at, one in enumerate(mine):
        one.statuses += by_status[at]
        for k, values in beyond.items():
            one.beyond[k] += int(values[at])
        for name, sums in whole.items():
            one.spent[name] += int(sums[at])
        one.spent["seconds"] = float(seconds[at])
    _keep_sizes(mine, rows)
    if rows.refusals is not None:
        _count_refusals(mine, rows, rows.refusals)


def _keep_sizes(mine: Sequence[Tally], rows: Rows) -> None:
    broken = np.flatnonzero(rows.status == CODE[BROKEN])
    # stable: sizes stay in the order of the records
    broken = broken[np.argsort(rows.group[broken], kind="stable")]
    ends = np.searchsorted(rows.group[broken], np.arange(len(mine) + 1))
    for at, one in enumerate(mine):
        if ends[at] < ends[at + 1]:
            one.sizes.append(rows.sizes[one.norm][broken[ends[at] : ends[at + 1]]])


def _count_refusals(mine: Sequence[Tally], rows: Rows, refusals: Refusals) -> None:
    right_refused = refusals.right & (rows.status == CODE[CLEAN_REJECTED])
    told = [refusals.known, right_refused, refusals.fooled, refusals.passed]
    known, refused, fooled, passed = (np.bincount(rows.group[one], minlength=len(mine)) for one in told)
    for at, one in enumerate(mine):
        one.may_refuse = one.may_refuse or bool(known[at])
        one.right_refused += int(refused[at])
        one.fooled += int(fooled[at])
        one.passed += int(passed[at])


def groups(records: pa.Table, names: Sequence[str]) -> tuple[Array, Array]:
    """Return a number per row that is equal where these columns are, counted in order of appearance; and first rows."""
    whole, many = np.zeros(records.num_rows, np.int64), 1
    for name in names:
        codes, values = texts(records, name)
        if len(values) == 1:
            continue
        whole, many = whole * len(values) + codes, many * len(values)
        if many > 1 << 24:
            # renumbered, so that many columns cannot overflow
            whole = np.unique(whole, return_inverse=True)[1].astype(np.int64)
            many = int(whole.max()) + 1
    first = np.full(many, -1, np.int64)
    # the last to be written is the first of the rows
    first[whole[::-1]] = np.arange(records.num_rows - 1, -1, -1)
    there = np.flatnonzero(first >= 0)
    there = there[np.argsort(first[there])]
    place = np.zeros(many, np.int64)
    place[there] = np.arange(len(there))
    return place[whole], first[there]


def texts(records: pa.Table, name: str) -> tuple[Array, list[Any]]:
    """Return a column as codes, one per row, and the values that they stand for; what is null has code -1."""
    column = records[name]
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    chunks: Any = column.chunks
    if not chunks:
        return np.zeros(0, np.int64), []
    codes = [pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False) for chunk in chunks]
    values: list[Any] = chunks[0].dictionary.to_pylist()
    return (codes[0] if len(codes) == 1 else np.concatenate(codes)).astype(np.int64), values


def constants(records: pa.Table, rows: Array) -> list[dict[str, Any]]:
    """Return what some rows say of their numbers."""
    return taken(records, CONSTANT, rows)


def taken(records: pa.Table, names: Sequence[str], rows: Array) -> list[dict[str, Any]]:
    """Return some columns of some rows as plain values."""
    places: Any = pa.array(rows)
    return [dict(row) for row in records.select(list(names)).take(places).to_pylist()]


def numbers(column: Any) -> Array:
    """Return a column without nulls as an array."""
    array: Array = column.to_numpy()
    return array
