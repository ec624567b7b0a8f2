"""The numbers of a run that an audit judges, and what became of every sample behind them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.core.budget import Budget
from assay.defenses.chain import SEPARATOR
from assay.evaluation.cell import Cell
from assay.evaluation.records.schema import BROKEN, ERROR, REJECTED, SURVIVED
from assay.evaluation.run import Run

CLEAN_REJECTED, UNBROKEN = "clean_rejected", (SURVIVED, REJECTED)


@dataclasses.dataclass(frozen=True)
class RobustNumber:
    """One robust number: the cells it comes from, its budget, and per cell what became of every sample (by id).

    `passes` is what the evaluation spent on it. `unaware` are digests of cells whose attack ignores the model's
    defence: what they break counts, and their own numbers have no verdict.
    """

    cells: tuple[Cell, ...]
    budget: Budget
    statuses: dict[str, dict[str, str]]
    passes: int = 0
    unaware: frozenset[str] = frozenset()

    @property
    def judged(self) -> set[str]:
        """The digests of the cells whose numbers have a verdict."""
        return {cell.digest for cell in self.cells} - self.unaware

    @property
    def head(self) -> Cell:
        """A cell that stands for all in whatever is not the attack."""
        return self.cells[0]

    @property
    def key(self) -> tuple[Any, ...]:
        """What the number is about; see `Verdict.key`."""
        head = self.head
        return (head.model.label, head.data.label, head.threat.label, head.unit, self.budget.value, head.goal)

    def outcome(self, sample: str) -> str | None:
        """Return what became of a sample under all attacks together; None where not all have met it, or one failed."""
        each = [statuses.get(sample) for statuses in self.statuses.values()]
        if BROKEN in each:
            return BROKEN
        if None in each or ERROR in each:
            return None
        # what one attack leaves refused and another accepted is unbroken either way
        return SURVIVED if SURVIVED in each else each[0]

    @property
    def outcomes(self) -> dict[str, str]:
        """What became of the samples that every attack has met."""
        samples = dict.fromkeys(name for statuses in self.statuses.values() for name in statuses)
        found = {name: self.outcome(name) for name in samples}
        return {name: one for name, one in found.items() if one is not None}

    @property
    def survived(self) -> int:
        """How many samples withstood all attacks."""
        return sum(one in UNBROKEN for one in self.outcomes.values())


@dataclasses.dataclass(frozen=True)
class Group:
    """The numbers of one model on one data set under one threat, budget by budget, smallest first.

    `passes` is what a sample cost the evaluation on average, all budgets and attacks together.
    """

    numbers: tuple[RobustNumber, ...]
    passes: float

    @property
    def pivot(self) -> RobustNumber:
        """The number that evidence is gathered about.

        That of the largest budget that a fifth of the images withstand, ten at least: what hides an attack from its
        goal hides it best where much is left, and matters most where the budget is large. Else where most is left.
        """
        right = max(
            len([one for one in number.outcomes.values() if one in (BROKEN, *UNBROKEN)]) for number in self.numbers
        )
        enough = [number for number in self.numbers if number.survived >= max(10, right / 5)]
        return enough[-1] if enough else max(self.numbers, key=lambda number: number.survived)


def groups(run: Run) -> list[Group]:
    """Return the numbers of a run that an audit judges: worst-case, untargeted, with a budget above 0.

    Numbers that are not adaptive (see `unaware`) are none of them.
    """
    found = [_group(run, cells) for cells in _together(run) if not all(ignores_defense(run, one) for one in cells)]
    return [one for one in found if one.numbers]


def unaware(run: Run) -> list[Cell]:
    """Return a cell for each model, data set and threat whose number is not adaptive, and has no verdict.

    A defence that every attack of a number ignores, because they were all made on another model, was not evaluated:
    what such a number says of it cannot be made better by a verdict.
    """
    return [cells[0] for cells in _together(run) if all(ignores_defense(run, one) for one in cells)]


def ignores_defense(run: Run, cell: Cell) -> bool:
    """Whether the attack of a cell was made on another model, and the cell's own refuses images or is defended."""
    facts = run.manifest["models"].get(cell.model.label, {})
    guarded = bool(facts.get("rejects")) or SEPARATOR in cell.model.model
    return guarded and bool(cell.attack.options.get("surrogate"))


def _together(run: Run) -> list[list[Cell]]:
    together: dict[tuple[Any, ...], list[Cell]] = {}
    for plain in run.cells.values():
        cell = Cell.of(plain)
        if cell.question == "worst_case" and cell.goal == "untargeted":
            key = (cell.model.label, cell.data.label, cell.threat.label, cell.unit)
            together.setdefault(key, []).append(cell)
    return list(together.values())


def _group(run: Run, cells: Sequence[Cell]) -> Group:
    names = ["cell", "eps", "sample_id", "status", "forwards"]
    rows = run.store.read([cell.digest for cell in cells], names).to_pydict()
    by: dict[float, dict[str, dict[str, str]]] = {}
    spent: Counter[float] = Counter()
    for digest, eps, sample, status, forwards in zip(*(rows[name] for name in names), strict=True):
        by.setdefault(eps, {}).setdefault(digest, {})[sample] = status
        spent[eps] += forwards
    passes = spent.total() / max(1, len(set(rows["sample_id"])))
    blind = frozenset(cell.digest for cell in cells if ignores_defense(run, cell))
    return Group(tuple(_numbers(cells, by, spent, blind)), passes)


def _numbers(
    cells: Sequence[Cell],
    by: dict[float, dict[str, dict[str, str]]],
    spent: Mapping[float, int],
    unaware: frozenset[str],
) -> Iterator[RobustNumber]:
    budgets = {budget.value: budget for cell in cells for budget in cell.budgets}
    for eps in sorted(budgets):
        own = tuple(cell for cell in cells if cell.digest in by.get(eps, {}))
        statuses = {cell.digest: by[eps][cell.digest] for cell in own}
        number = RobustNumber(own, budgets[eps], statuses, spent[eps], unaware)
        # where every image failed to load there is no number
        if eps > 0 and number.outcomes:
            yield number
