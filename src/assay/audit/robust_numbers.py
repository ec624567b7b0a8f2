"""The numbers of a run that an audit judges, and what became of every sample behind them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.core.budget import Budget
from assay.evaluation.analysis.tallies import groups as groups_of
from assay.evaluation.analysis.tallies import numbers, taken, texts
from assay.evaluation.cell import Cell
from assay.evaluation.records.schema import BROKEN, CERTIFIED, ERROR, STATUSES, SURVIVED, UNBROKEN
from assay.evaluation.run import Run


@dataclasses.dataclass(frozen=True)
class RobustNumber:
    """One robust number: the cells it comes from, its budget, and per cell what became of every sample (by id).

    `passes` is what the evaluation spent on it, and `queries` how often it asked the model itself.
    """

    cells: tuple[Cell, ...]
    budget: Budget
    statuses: Mapping[str, Mapping[str, str]]
    passes: int = 0
    queries: int = 0

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
        """Return what became of a sample under all attacks together; None where not all have met it, or one failed.

        What one of them did not have to attack, since it is certified, is certified.
        """
        each = [statuses.get(sample) for statuses in self.statuses.values()]
        if BROKEN in each:
            return BROKEN
        if None in each or ERROR in each:
            return None
        return CERTIFIED if CERTIFIED in each else each[0]

    @property
    def outcomes(self) -> dict[str, str]:
        """What became of the samples that every attack has met."""
        samples = dict.fromkeys(name for statuses in self.statuses.values() for name in statuses)
        found = {name: self.outcome(name) for name in samples}
        return {name: one for name, one in found.items() if one is not None}

    @property
    def survived(self) -> int:
        """How many samples withstood all attacks, those that are certified to included."""
        return sum(one in (SURVIVED, CERTIFIED) for one in self.outcomes.values())

    @property
    def certified(self) -> int:
        """How many samples are proved to withstand any attack: none of these has to be looked at."""
        return sum(one == CERTIFIED for one in self.outcomes.values())

    @property
    def open(self) -> int:
        """How many samples withstood, and are not certified."""
        return self.survived - self.certified


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
        What is certified to withstand does not count.
        """
        right = max(
            len([one for one in number.outcomes.values() if one in (BROKEN, SURVIVED)]) for number in self.numbers
        )
        enough = [number for number in self.numbers if number.open >= max(10, right / 5)]
        return enough[-1] if enough else max(self.numbers, key=lambda number: number.open)


def groups(run: Run) -> list[Group]:
    """Return the numbers of a run that an audit judges: worst-case, untargeted, with a budget above 0.

    Those of `not_adaptive` are none of them.
    """
    found = [_group(run, cells) for cells in _together(run) if not _ignoring(run, cells)]
    return [one for one in found if one.numbers]


def not_adaptive(run: Run) -> list[Cell]:
    """Return a cell for each model, data set and threat that was only attacked with images of another model.

    The model is defended itself, and nothing was asked of its defence: a verdict on such a number would say nothing.
    """
    return [cells[0] for cells in _together(run) if _ignoring(run, cells)]


def _ignoring(run: Run, cells: Sequence[Cell]) -> bool:
    return all(run.ignores_defense(one.digest) for one in cells)


def _together(run: Run) -> list[list[Cell]]:
    together: dict[tuple[Any, ...], list[Cell]] = {}
    for plain in run.cells.values():
        cell = Cell.of(plain)
        if cell.question == "worst_case" and cell.goal == "untargeted":
            key = (cell.model.label, cell.data.label, cell.threat.label, cell.unit)
            together.setdefault(key, []).append(cell)
    return list(together.values())


class _Statuses(Mapping[str, str]):
    """What became of samples by id, a byte each: many attacks met the same ones."""

    def __init__(self, places: Mapping[str, int]) -> None:
        self._places = places
        self._codes = np.zeros(0, np.uint8)

    def put(self, at: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        """Note the statuses (by their place in `STATUSES`) of the samples at these places."""
        if len(self._codes) < len(self._places):
            self._codes = np.concatenate([self._codes, np.zeros(len(self._places) - len(self._codes), np.uint8)])
        self._codes[at] = codes + 1

    def __getitem__(self, sample: str) -> str:
        place = self._places[sample]
        if place >= len(self._codes) or not self._codes[place]:
            raise KeyError(sample)
        return STATUSES[self._codes[place] - 1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, place in self._places.items() if place < len(self._codes) and self._codes[place])

    def __len__(self) -> int:
        return int(np.count_nonzero(self._codes))


# whether an image that no attack broke is right or refused does not matter to the number
_KEPT = np.array(
    [STATUSES.index(SURVIVED if one in UNBROKEN and one != CERTIFIED else one) for one in STATUSES], np.uint8
)


def _group(run: Run, cells: Sequence[Cell]) -> Group:
    names = ["cell", "eps", "sample_id", "status", "forwards", "queries"]
    places: dict[str, int] = {}
    by: dict[float, dict[str, _Statuses]] = {}
    spent: Counter[float] = Counter()
    queries: Counter[float] = Counter()
    for piece in run.pieces(names, [cell.digest for cell in cells], coded=True):
        group, first = groups_of(piece, ("cell", "eps"))
        (at, ids), (status, words) = texts(piece, "sample_id"), texts(piece, "status")
        sample = np.array([places.setdefault(one, len(places)) for one in ids], np.int64)[at]
        kept = _KEPT[np.array([STATUSES.index(word) for word in words], np.int64)[status]]
        heads = taken(piece, ("cell", "eps"), first)
        sums = [np.bincount(group, numbers(piece[name])) for name in ("forwards", "queries")]
        for number, head in enumerate(heads):
            mine = group == number
            of_budget = by.setdefault(head["eps"], {})
            of_budget.setdefault(head["cell"], _Statuses(places)).put(sample[mine], kept[mine])
            spent[head["eps"]] += int(sums[0][number])
            queries[head["eps"]] += int(sums[1][number])
    passes = spent.total() / max(1, len(places))
    return Group(tuple(_numbers(cells, by, spent, queries)), passes)


def _numbers(
    cells: Sequence[Cell],
    by: Mapping[float, Mapping[str, Mapping[str, str]]],
    spent: Mapping[float, int],
    queries: Mapping[float, int],
) -> Iterator[RobustNumber]:
    budgets = {budget.value: budget for cell in cells for budget in cell.budgets}
    for eps in sorted(budgets):
        own = tuple(cell for cell in cells if cell.digest in by.get(eps, {}))
        statuses = {cell.digest: by[eps][cell.digest] for cell in own}
        number = RobustNumber(own, budgets[eps], statuses, spent[eps], queries[eps])
        # where every image failed to load there is no number
        if eps > 0 and number.outcomes:
            yield number
