"""The numbers of a run that an audit judges, and what they come from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from assay.evaluate.plan import Cell
from assay.evaluate.record import BROKEN, SURVIVED
from assay.evaluate.run_directory import Run


@dataclasses.dataclass(frozen=True)
class Claim:
    """One robust number: the cells it comes from, the budget, and what became of every sample (by id)."""

    cells: tuple[Cell, ...]
    at: int
    statuses: dict[str, dict[str, str]]
    passes: float

    @property
    def head(self) -> Cell:
        """A cell that stands for all in whatever is not the attack."""
        return self.cells[0]

    @property
    def eps(self) -> float:
        """The budget."""
        return self.head.budgets[self.at].value

    @property
    def key(self) -> tuple[Any, ...]:
        """What the number is about; see `Verdict.key`."""
        head = self.head
        return (head.model.label, head.data.source, head.threat.label, head.unit, self.eps, head.goal)

    @functools.cached_property
    def outcomes(self) -> dict[str, str]:
        """What became of every sample that could be evaluated and that all attacks have met."""
        each = {name: self.outcome(name) for statuses in self.statuses.values() for name in statuses}
        return {name: one for name, one in each.items() if one not in (None, "error")}

    @property
    def survived(self) -> int:
        """How many samples no attack broke."""
        return sum(one == SURVIVED for one in self.outcomes.values())

    def outcome(self, sample: str) -> str | None:
        """Return what became of a sample under all attacks together; None where not all have met it."""
        each = [statuses.get(sample) for statuses in self.statuses.values()]
        if None in each:
            return None
        return BROKEN if BROKEN in each else each[0]


def claims(run: Run) -> list[Claim]:
    """Return the numbers of a run that an audit judges: worst-case, untargeted, with a budget."""
    cells = [Cell.of(plain) for plain in run.cells.values()]
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        if cell.question == "worst_case" and cell.goal == "untargeted":
            key = (cell.model.label, cell.data.source, cell.threat.label, cell.unit)
            groups.setdefault(key, []).append(cell)
    return [claim for group in groups.values() for claim in _of_group(run, group)]


def _of_group(run: Run, cells: Sequence[Cell]) -> Iterator[Claim]:
    table = run.store.read([cell.digest for cell in cells], ["cell", "eps", "sample_id", "status", "forwards"])
    rows = table.to_pydict()
    budgets = {budget.value: i for cell in cells for i, budget in enumerate(cell.budgets)}
    by: dict[float, dict[str, dict[str, str]]] = {eps: {} for eps in budgets}
    for digest, eps, sample, status in zip(
        *(rows[name] for name in ("cell", "eps", "sample_id", "status")), strict=True
    ):
        by[eps].setdefault(digest, {})[sample] = status
    passes = float(np.sum(rows["forwards"])) / max(1, len(set(rows["sample_id"]))) / max(1, len(budgets))
    for eps in sorted(budgets):
        own = tuple(
            cell for cell in cells if any(budget.value == eps for budget in cell.budgets) and cell.digest in by[eps]
        )
        if own and eps > 0:
            at = next(i for i, budget in enumerate(own[0].budgets) if budget.value == eps)
            claim = Claim(own, at, {cell.digest: by[eps][cell.digest] for cell in own}, passes)
            # of no sample that all attacks have met there is no number yet
            if claim.outcomes:
                yield claim
