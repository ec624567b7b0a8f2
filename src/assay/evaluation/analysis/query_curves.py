"""What an attack needed: accuracy against queries or steps, and after each stage of a composed attack.

Only where a sample stops at its first success do its counts say what that success took: the worst-case question,
budgets in ascending order, an attack that keeps its first success.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.attacks import ATTACKS, build
from assay.core.compose import Method, for_norm
from assay.core.compose import stages as stage_names
from assay.core.errors import BadInput, did_you_mean
from assay.core.search import Keeps
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.schema import BROKEN, UNCOUNTED, WRONG_BEFORE, stage_label
from assay.vocabulary import Order, Question

COSTS = ("queries", "steps", "forwards", "backwards")
NEEDED = ("cell", "attack", "eps", "eps_written", "sample_id", "status", "stage", *COSTS)
"""The columns that these functions read."""

Array = NDArray[Any]


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


def stops_at_success(cell: Mapping[str, Any]) -> bool:
    """Whether the counts of a cell (as the manifest keeps it) are those up to a sample's first success."""
    method = _method(cell)
    asked = cell["question"] == Question.WORST_CASE.value and cell["order"] == Order.ASCENDING.value
    return asked and method is not None and method.keeps is Keeps.FIRST


def _method(cell: Mapping[str, Any]) -> Method | None:
    options = dict(cell["specs"]["attack"])
    name = options.pop("attack")
    # what a file holds is not asked for: the records must be readable without it; and on a surrogate nothing stops at
    # a success
    if name not in ATTACKS or "surrogate" in options:
        return None
    return for_norm(build(name, **options), cell["norm"])


def efforts(records: pa.Table, cells: Mapping[str, Mapping[str, Any]], over: str) -> list[Effort]:
    """Return the curves of all cells that stop at success, one per budget above 0. `records` needs `NEEDED`.

    Raises `BadInput` where `over` is no cost.
    """
    if over not in COSTS:
        raise BadInput(f"{over!r} is no cost, expected one of {', '.join(COSTS)}.{did_you_mean(over, COSTS)}")
    found = []
    for digest, cell in cells.items():
        if not stops_at_success(cell):
            continue
        total: dict[str, int] = {}
        for eps, rows in _budgets(records, digest):
            ids: list[Any] = rows["sample_id"].to_pylist()
            spent: list[Any] = rows[over].to_pylist()
            for sample, cost in zip(ids, spent, strict=True):
                total[sample] = total.get(sample, 0) + cost
            if eps > 0:
                found.append(_effort(rows, [total[sample] for sample in ids], over))
    return found


def _effort(rows: pa.Table, spent: list[int], over: str) -> Effort:
    status, cost = np.array(rows["status"].to_pylist()), np.array(spent)
    valid = ~np.isin(status, UNCOUNTED)
    n = int(valid.sum())
    costs, counts = np.unique(cost[status == BROKEN], return_counts=True)
    clean = int((valid & ~np.isin(status, WRONG_BEFORE)).sum())
    left = clean - np.cumsum(counts)
    return Effort(
        **_constants(rows), over=over, n=n, clean=clean / max(n, 1), costs=tuple(costs.tolist()),
        accuracy=tuple((left / max(n, 1)).tolist()), spent=int(cost.max(initial=0)),
    )  # fmt: skip


def stages(records: pa.Table, cells: Mapping[str, Mapping[str, Any]]) -> list[Stage]:
    """Return what each stage of a composed attack left standing, cell by cell and budget by budget.

    `records` needs `NEEDED`.
    """
    found = []
    for digest, cell in cells.items():
        method = _method(cell)
        names = stage_names(method) if method is not None else ()
        for _, rows in _budgets(records, digest) if len(names) > 1 else ():
            status, stage = np.array(rows["status"].to_pylist()), np.array(rows["stage"].to_pylist(), object)
            valid = np.isin(status, UNCOUNTED, invert=True)
            n, left = int(valid.sum()), int((valid & ~np.isin(status, WRONG_BEFORE)).sum())
            constants = _constants(rows)
            del constants["attack"]
            for number, name in enumerate(names, 1):
                broken = int(((stage == stage_label(number, name)) & (status == BROKEN)).sum())
                left -= broken
                found.append(Stage(**constants, number=number, name=name, broken=broken, survived=left, n=n))
    return found


def _budgets(records: pa.Table, digest: str) -> Iterable[tuple[float, pa.Table]]:
    mine = records.filter(pc.equal(records["cell"], digest))
    budgets: list[float] = np.unique(mine["eps"].to_numpy()).tolist()
    for eps in budgets:
        yield eps, mine.filter(pc.equal(mine["eps"], eps))


def _constants(rows: pa.Table) -> dict[str, Any]:
    return {name: rows[name][0].as_py() for name in ("cell", "attack", "eps", "eps_written")}
