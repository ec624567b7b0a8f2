"""The numbers of all records of a run, with a bounded number of records at hand."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.core.budget import parse_budget
from assay.evaluation.analysis.rejection import REFUSAL_COLUMNS
from assay.evaluation.analysis.score import COUNTED, Result, Stds, Thresholds
from assay.evaluation.analysis.score import results as of_records
from assay.evaluation.analysis.score import worst_case as of_several
from assay.evaluation.analysis.worst import BYTES_PER_SAMPLE
from assay.evaluation.records.arrow import compute as pc

Read = Callable[[Sequence[str], Iterable[str]], Iterator[pa.Table]]
"""Yields some columns of the records of some cells (digests), piece by piece; no piece is of two cells."""

Keep = Callable[[Callable[[], list[Result]], str, Sequence[str], object], list[Result]]

STATE = 1 << 27
"""So many bytes are kept of samples at once; where they need more, some budgets are read after the others."""

_ALIKE = ("model", "data", "threat", "unit", "question", "goal")


@dataclasses.dataclass(frozen=True)
class Scan:
    """What is scored: how records are `read`, and the `cells` as the manifest keeps them.

    `stds` and `thresholds` are as in `score.results`; `rejects` says that a model may refuse images. `keep` returns the
    numbers of some cells, of a kind, as they were kept, or what it is given counts.
    """

    read: Read
    cells: Mapping[str, Mapping[str, Any]]
    stds: Stds
    thresholds: Thresholds
    rejects: bool
    keep: Keep = lambda count, kind, cells, about: count()

    def results(self) -> list[Result]:
        """Return one result per cell and budget, in order of the cells."""
        # cell by cell: what is kept of one goes before the next is read
        return [one for digest in self.cells for one in self._results(digest)]

    def _results(self, digest: str) -> list[Result]:
        def count() -> list[Result]:
            return of_records(self.read(self._columns([digest]), [digest]), self.stds, self.thresholds)

        return self.keep(count, "results", [digest], self._about([digest]))

    def _about(self, cells: Iterable[str]) -> object:
        # what the numbers of cells depend on besides their records
        models = sorted({str(self.cells[digest]["model"]) for digest in cells})
        thresholds = [self.thresholds.get(name) for name in models]
        told = [None if one is None else dataclasses.asdict(one) for one in thresholds]
        return [self.rejects, [[name, self.stds.get(name)] for name in models], told]

    def worst_case(self) -> list[Result]:
        """Return the per-sample worst case over the attacks; see `score.worst_case`.

        Only attacks that are merged are read together, and of many samples only some budgets at a time.
        """
        alike: dict[tuple[Any, ...], list[str]] = {}
        for digest, cell in self.cells.items():
            alike.setdefault(tuple(cell.get(name) for name in _ALIKE), []).append(digest)
        place = {digest: at for at, digest in enumerate(self.cells)}
        found: list[tuple[tuple[int, int], Result]] = []
        for group in alike.values():
            first: dict[float, int] = {}
            for digest in group:
                for eps in self._budgets(digest):
                    first.setdefault(eps, place[digest])
            merged = self._alone(group[0]) if len(group) == 1 else self._merged(group)
            found += [((first[one.eps], at), one) for at, one in enumerate(merged)]
        return [one for _, one in sorted(found, key=operator.itemgetter(0))]

    def _alone(self, digest: str) -> list[Result]:
        found = [dataclasses.replace(one, cell="") for one in self._results(digest)]
        return [one for one in found if one.n or one.errors or one.excluded]

    def _merged(self, group: Sequence[str]) -> list[Result]:
        return self.keep(lambda: self._counted(group), "worst case", group, self._about(group))

    def _counted(self, group: Sequence[str]) -> list[Result]:
        columns = [*self._columns(group), "sample_id"]
        budgets = list(dict.fromkeys(eps for digest in group for eps in self._budgets(digest)))
        samples = max(int(self.cells[digest].get("n", 0)) for digest in group)
        at_once = max(1, STATE // max(1, samples * BYTES_PER_SAMPLE))
        if at_once >= len(budgets):
            return of_several(self.read(columns, group), self.stds, self.thresholds)
        found = []
        for start in range(0, len(budgets), at_once):
            some = pa.array(budgets[start : start + at_once])
            pieces = (one.filter(pc.is_in(one["eps"], value_set=some)) for one in self.read(columns, group))
            found += of_several(pieces, self.stds, self.thresholds)
        return found

    def _budgets(self, digest: str) -> list[float]:
        return [parse_budget(written).value for written in self.cells[digest]["eps"]]

    def _columns(self, cells: Iterable[str]) -> list[str]:
        sizes = dict.fromkeys(f"size_{self.cells[digest]['norm']}" for digest in cells)
        columns = [*COUNTED, *sizes, *(REFUSAL_COLUMNS if self.rejects else ())]
        return list(dict.fromkeys(columns))


__all__ = ["STATE", "Read", "Scan"]
