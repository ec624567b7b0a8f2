"""What an attack needed: accuracy against queries or steps, and after each stage of a composed attack.

Only where a sample stops at its first success do its counts say what that success took: the worst-case question,
budgets in ascending order, an attack that keeps its first success.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.core.errors import BadInput, did_you_mean
from assay.evaluation.analysis.tallies import numbers, texts
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.schema import BROKEN, UNCOUNTED, WRONG_BEFORE, stage_label

COSTS = ("queries", "steps", "forwards", "backwards")
NEEDED = ("cell", "attack", "chunk", "eps", "eps_written", "sample_id", "status", "stage", *COSTS)
"""The columns that these functions read."""

Array = NDArray[Any]
Methods = Mapping[str, Mapping[str, Any]]
Records = pa.Table | Callable[[str], Iterable[pa.Table]]


@dataclasses.dataclass(frozen=True)
class Effort:
    """Accuracy of one cell at one budget against a cost per sample, counted over the budgets up to it.

    `costs[i]` (ascending) is a cost at which samples fell, `accuracy[i]` the share of the `n` samples that stands once
    so much was spent on each; before the first it is `clean`. `spent` is the most spent on any sample.
    """

    cell: str
    attack: str
    eps: float
    eps_written: str
    over: str
    n: int
    clean: float
    costs: tuple[int, ...]
    accuracy: tuple[float, ...]
    spent: int

    def at(self, cost: int) -> float:
        """Return the accuracy left once `cost` was spent on each sample."""
        return next(
            (left for one, left in zip(self.costs[::-1], self.accuracy[::-1], strict=True) if one <= cost), self.clean
        )


@dataclasses.dataclass(frozen=True)
class Stage:
    """What is left of `n` samples after stage `number` (from 1) of a composed attack, at one budget."""

    cell: str
    eps: float
    eps_written: str
    number: int
    name: str
    broken: int
    survived: int
    n: int


def efforts(
    records: Records, cells: Mapping[str, Mapping[str, Any]], over: str, methods: Methods | None = None
) -> list[Effort]:
    """Return the curves of all cells that stop at success, one per budget above 0.

    `records` need `NEEDED`: a table, or what yields those of a cell (its digest) piece by piece, in order of the chunks
    and in each of the budgets. `methods` is what the manifest knows of the attacks; of cells that it does not know
    they are built. Raises `BadInput` where `over` is no cost.
    """
    if over not in COSTS:
        raise BadInput(f"{over!r} is no cost, expected one of {', '.join(COSTS)}.{did_you_mean(over, COSTS)}")
    found = []
    for digest, cell in cells.items():
        if _method_of(digest, cell, methods)["stops"]:
            found += _efforts(_of_cell(records, digest), over)
    return found


@dataclasses.dataclass
class _Falls:
    """What is known of the curve at one budget; `costs` are those at which samples fell, with how many did."""

    constants: dict[str, Any]
    n: int = 0
    clean: int = 0
    spent: int = 0
    costs: Counter[int] = dataclasses.field(default_factory=Counter)


def _efforts(pieces: Iterable[pa.Table], over: str) -> list[Effort]:
    falls: dict[float, _Falls] = {}
    # what was spent on the samples of the chunk in hand, budget by budget
    total: dict[str, int] = {}
    last = None
    for rows in pieces:
        chunks, budgets = numbers(rows["chunk"]), numbers(rows["eps"])
        for start, end in _runs(chunks, budgets):
            if chunks[start] != last:
                total, last = {}, chunks[start]
            some, eps = rows.slice(start, end - start), float(budgets[start])
            ids: list[Any] = some["sample_id"].to_pylist()
            for sample, cost in zip(ids, numbers(some[over]).tolist(), strict=True):
                total[sample] = total.get(sample, 0) + cost
            one = falls.setdefault(eps, _Falls(_constants(some)))
            _add(one, some, np.array([total[sample] for sample in ids], np.int64))
    return [_effort(falls[eps], over) for eps in sorted(falls) if eps > 0]


def _runs(chunks: Array, budgets: Array) -> Iterator[tuple[int, int]]:
    """Yield where runs of rows of one chunk and budget begin and end."""
    if not len(chunks):
        return
    ends = np.flatnonzero((np.diff(chunks) != 0) | (np.diff(budgets) != 0)) + 1
    yield from itertools.pairwise([0, *ends.tolist(), len(chunks)])


def _add(one: _Falls, rows: pa.Table, cost: Array) -> None:
    status = _words(rows, "status")
    valid = ~np.isin(status, UNCOUNTED)
    one.n += int(valid.sum())
    one.clean += int((valid & ~np.isin(status, WRONG_BEFORE)).sum())
    one.spent = max(one.spent, int(cost.max(initial=0)))
    costs, counts = np.unique(cost[status == BROKEN], return_counts=True)
    one.costs.update(dict(zip(costs.tolist(), counts.tolist(), strict=True)))


def _effort(one: _Falls, over: str) -> Effort:
    costs = np.array(sorted(one.costs), np.int64)
    left = one.clean - np.cumsum([one.costs[cost] for cost in costs.tolist()])
    n = max(one.n, 1)
    return Effort(
        **one.constants, over=over, n=one.n, clean=one.clean / n, costs=tuple(costs.tolist()),
        accuracy=tuple((left / n).tolist()), spent=one.spent,
    )  # fmt: skip


def stages(records: Records, cells: Mapping[str, Mapping[str, Any]], methods: Methods | None = None) -> list[Stage]:
    """Return what each stage of a composed attack left standing, cell by cell and budget by budget.

    `records` and `methods` are as in `efforts`.
    """
    found: list[Stage] = []
    for digest, cell in cells.items():
        names = _method_of(digest, cell, methods)["stages"]
        if len(names) > 1:
            found += _stages(_of_cell(records, digest), names)
    return found


def _stages(pieces: Iterable[pa.Table], names: Sequence[str]) -> Iterator[Stage]:
    labels = [stage_label(number, name) for number, name in enumerate(names, 1)]
    counts: dict[float, tuple[dict[str, Any], Array]] = {}
    for rows in pieces:
        budgets = numbers(rows["eps"])
        status, stage = _words(rows, "status"), _words(rows, "stage")
        valid = ~np.isin(status, UNCOUNTED)
        told = [valid, valid & ~np.isin(status, WRONG_BEFORE)]
        told += [(status == BROKEN) & (stage == label) for label in labels]
        for eps in np.unique(budgets).tolist():
            mine = budgets == eps
            first = rows.slice(int(np.argmax(mine)), 1)
            _, sums = counts.setdefault(eps, (_constants(first), np.zeros(len(told), np.int64)))
            sums += [int((one & mine).sum()) for one in told]
    for eps in sorted(counts):
        constants, sums = counts[eps]
        n, left, *broken = sums.tolist()
        about = {name: value for name, value in constants.items() if name != "attack"}
        for number, (name, fell) in enumerate(zip(names, broken, strict=True), 1):
            left -= fell
            yield Stage(**about, number=number, name=name, broken=fell, survived=left, n=n)


def _method_of(digest: str, cell: Mapping[str, Any], methods: Methods | None) -> Mapping[str, Any]:
    if methods is not None and digest in methods:
        return methods[digest]
    # a run of an earlier version; building attacks needs torch, and reading records does not
    from assay.evaluation.methods import told_method

    return told_method(cell)


def _of_cell(records: Records, digest: str) -> Iterable[pa.Table]:
    if not isinstance(records, pa.Table):
        return records(digest)
    return [records.filter(pc.equal(records["cell"], digest)).sort_by([("chunk", "ascending"), ("eps", "ascending")])]


def _words(rows: pa.Table, name: str) -> Array:
    codes, words = texts(rows, name)
    # what has no word has code -1
    return np.array([*words, None], object)[codes]


def _constants(rows: pa.Table) -> dict[str, Any]:
    return {name: rows[name][0].as_py() for name in ("cell", "attack", "eps", "eps_written")}
