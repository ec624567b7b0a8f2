"""Adversarial images of a run as files: made again from their seeds, compared with the records, judged as written."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core.budget import Budget
from assay.core.errors import AssayError, BadInput
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.signals import apart
from assay.core.sweep import Curve
from assay.core.tensors import take
from assay.evaluation.attack_unit import CleanLook, do
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.execution.lock import NAME as LOCK
from assay.evaluation.execution.lock import locked
from assay.evaluation.executors.base import failure
from assay.evaluation.experiment import Experiment
from assay.evaluation.export.choice import Choice
from assay.evaluation.export.image_files import check_channels, file_name, write_array, write_pngs
from assay.evaluation.export.index import Entry, Index
from assay.evaluation.loader import Bench, Loader
from assay.evaluation.run import Run
from assay.files import make_folder, remove_unfinished
from assay.models.remote.ledger import Ledger
from assay.models.remote.place import asking


class ExportFailed(AssayError):
    """An export that could not go on; what is finished is kept."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export wrote into `folder`; `index` is the CSV file that names every image.

    `images` counts all images written, `broken` those that the run calls broken; `fooling` are those of them that still
    fool the model as written, `outside` those of these that rounding put beyond the budget. `differ` counts results
    that came out with another status than their record's: these are not written. `missing` counts chunks that the run
    has not finished.
    """

    folder: Path
    index: Path
    images: int
    broken: int
    fooling: int
    outside: int
    differ: int
    missing: int = 0


def export_images(
    run: Run,
    out: str | os.PathLike[str],
    choice: Choice | None = None,
    *,
    loader: Loader | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Exported:
    """Write the adversarial images of a run into the folder `out`, with an index; return what was written.

    A run keeps records, not images: each attack is run again, with the same seed on the same images, and a result whose
    status is not that of its record is not written. Every image is judged as the file holds it: an 8-bit PNG is a
    little different from what the attack found. The same call goes on where it was stopped. `loader` holds models and
    data given as Python objects.

    Raises `BadInput` for a folder with other files, filters that fit nothing, models or data that are not those of the
    run, and images that the form cannot hold; `DiskError` for a full or read-only disk; `ExportFailed` when the model
    fails.
    """
    choice, own = choice or Choice(), loader or Loader()
    chosen = choice.of(run)
    choice.check(run, [cell for cell, _ in chosen], own)
    done, _ = run.store.done([cell for cell, _ in chosen])
    index = Index(Path(out).expanduser())
    asked = _asked(run, choice, chosen, done)
    counts = index.finished(asked)
    if counts is None:
        todo = [(Unit(cell, chunk), budgets) for cell, budgets in chosen for chunk in sorted(done[cell.digest])]
        todo = [(unit, budgets) for unit, budgets in todo if _wanted(run, unit, choice, budgets)]
        if not todo:
            what = "a result" if choice.only == "all" else f"the status {choice.only}"
            raise BadInput(f"There is nothing to write: no image of the chosen cells has {what} in {run.path}.")
        with _taken(index, asked), contextlib.closing(own), Ledger.of_run(run.path).used(), asking("export"):
            export = _Export(run, index, choice, own)
            for number, (unit, budgets) in enumerate(todo):
                on_progress(number / len(todo))
                if not index.has(unit.cell.digest, unit.chunk):
                    index.add(unit.cell.digest, unit.chunk, *export.unit(unit, budgets))
            counts = index.close(asked)
        on_progress(1.0)
    missing = sum(cell.chunks - len(done[cell.digest]) for cell, _ in chosen)
    return Exported(index.folder, index.path, **counts, missing=missing)


@contextlib.contextmanager
def _taken(index: Index, asked: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder of an export alone, and leave no lock in a finished one."""
    make_folder(index.folder)
    with locked(index.folder):
        index.begin(asked)
        remove_unfinished(index.folder)
        yield
    (index.folder / LOCK).unlink(missing_ok=True)


def _asked(
    run: Run, choice: Choice, chosen: list[tuple[Cell, tuple[Budget, ...]]], done: Mapping[str, set[int]]
) -> dict[str, Any]:
    """Return what must be equal for a stopped export to be continued."""
    return {
        "study": run.study,
        "form": choice.form,
        "only": choice.only,
        "cells": {cell.digest: [budget.written for budget in budgets] for cell, budgets in chosen},
        "chunks": {cell.digest: sorted(done[cell.digest]) for cell, _ in chosen},
    }


def _wanted(run: Run, unit: Unit, choice: Choice, budgets: tuple[Budget, ...]) -> bool:
    eps = {budget.value for budget in budgets}
    stored = _stored(run, unit)
    return any(
        status in choice.statuses and at in eps for at, status in zip(stored["eps"], stored["status"], strict=True)
    )


def _stored(run: Run, unit: Unit) -> dict[str, list[Any]]:
    return run.store.chunk(unit.cell.digest, unit.chunk, ["eps", "status"]).to_pydict()


@dataclasses.dataclass
class _Seen:
    """What a unit's work shows: all readable images, those attacked, and what became of them."""

    all: CleanLook | None = None
    asked: CleanLook | None = None
    curve: Curve | None = None

    def images(self, asked: CleanLook) -> None:
        """Take in the images."""
        self.all = asked

    def attacked(self, asked: CleanLook, curve: Curve) -> None:
        """Take in the results."""
        self.asked, self.curve = asked, curve

    def results(self, budget: int) -> Tensor:
        """Return the image of every sample at a budget, `[N, C, H, W]`; of those not attacked, the image itself."""
        assert self.all is not None
        x = self.all.problem.x.clone()
        if self.asked is not None and self.curve is not None:
            place = {at: row for row, at in enumerate(self.all.at.tolist())}
            rows = [place[at] for at in self.asked.at.tolist()]
            x[rows] = self.curve.found[budget].x
        return x


@dataclasses.dataclass(frozen=True)
class _Export:
    run: Run
    index: Index
    choice: Choice
    loader: Loader

    def unit(self, unit: Unit, budgets: tuple[Budget, ...]) -> tuple[list[Entry], int]:
        """Make a chunk's images again and write them; return their entries, and how many results differ."""
        experiment = Experiment.of(unit.cell, self.loader).load()
        seen = _Seen()
        try:
            # answers that are drawn are those of the unit
            with asking(unit.cell.digest, unit.chunk):
                records = do(unit, experiment, watch=seen).table.to_pydict()
        except AssayError:
            raise
        except Exception as error:
            raise ExportFailed(f"{unit.cell.model.label} failed: {failure(error)}") from error
        stored, n = _stored(self.run, unit), len(unit.cell.positions(unit.chunk))
        entries: list[Entry] = []
        differ = 0
        for number, budget in enumerate(unit.cell.budgets):
            if budget not in budgets:
                continue
            here = range(number * n, (number + 1) * n)
            wanted = [row for row in here if stored["status"][row] in self.choice.statuses]
            same = [row for row in wanted if records["status"][row] == stored["status"][row]]
            differ += len(wanted) - len(same)
            if same:
                lines = [{name: values[row] for name, values in records.items()} for row in same]
                positions = [row - number * n for row in same]
                entries += self._written(unit, experiment.bench, seen, (number, positions), lines)
        return entries, differ

    def _written(
        self, unit: Unit, bench: Bench, seen: _Seen, where: tuple[int, list[int]], lines: list[dict[str, Any]]
    ) -> list[Entry]:
        assert seen.all is not None
        number, positions = where
        place = {at: row for row, at in enumerate(seen.all.at.tolist())}
        rows = torch.tensor([place[at] for at in positions], device=bench.device)
        problem = take(seen.all.problem, rows)
        images = seen.results(number).index_select(0, rows)
        check_channels(self.choice.form, images.shape[1], unit.cell.data.source)
        files, held = self._put(unit, number, lines, (images, bench.classes(images[:1])))
        held = held.to(problem.x.device, problem.x.dtype)
        asked = bench.oracle.look(held, problem.goal, margin, Access.SCORES, seen.all.draws.take(rows))
        threat = problem.threat.at(unit.cell.budgets[number].value)
        size = threat.size(held, problem.x)
        inside = threat.allows(size) & threat.in_box(held)
        known = ~asked.logits.isnan().any(1)
        told = apart(asked.logits, bench.classifier.rejects)
        answered = known if told.excess is None else known & (told.excess <= 0)
        return [
            Entry(
                file=file,
                row=None if self.choice.form == "png" else i,
                prediction=int(told.logits[i].argmax()) if answered[i] else None,
                still_fools=bool(asked.reached[i] & known[i]),
                size=float(size[i]),
                inside_budget=bool(inside[i]),
                **{name: line[name] for name in _COPIED},
            )
            for i, (file, line) in enumerate(zip(files, lines, strict=True))
        ]

    def _put(
        self, unit: Unit, number: int, lines: list[dict[str, Any]], what: tuple[Tensor, int]
    ) -> tuple[list[str], Tensor]:
        """Write images of so many classes; return the file of each, relative to the index, and what the files hold."""
        cell, (images, classes) = unit.cell, what
        folder = f"{file_name(cell.attack.label)}-{cell.digest[:8]}/{file_name(cell.budgets[number].written)}"
        labels = [int(line["label"]) for line in lines]
        if self.choice.form != "png":
            file = f"{folder}/part-{unit.chunk:05d}.{self.choice.form}"
            return [file] * len(lines), write_array(images, labels, self.index.folder / file)
        first, width = cell.positions(unit.chunk).start, len(str(cell.n - 1))
        place = {name: first + i for i, name in enumerate(self._ids(cell, unit))}
        # so many digits that the order of names is that of numbers: readers that number folders by name agree
        digits = len(str(classes - 1))
        files = [
            f"{folder}/{line['label']:0{digits}d}/{place[line['sample_id']]:0{width}d}-{file_name(line['sample_id'])}.png"
            for line in lines
        ]
        return files, write_pngs(images, files, self.index.folder)

    def _ids(self, cell: Cell, unit: Unit) -> list[str]:
        ids = Experiment.of(cell, self.loader).data.ids
        return [ids[at] for at in cell.positions(unit.chunk)]


_COPIED = (
    "sample_id", "label", "target", "status", "cell", "model", "data", "attack", "threat", "eps", "eps_written", "unit",
)  # fmt: skip

__all__ = ["Choice", "ExportFailed", "Exported", "export_images"]
