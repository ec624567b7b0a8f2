"""A run that holds its directory: what is not done gets done, and how it ended is noted."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError
from assay.evaluation.asked import Budget, budgets, plain
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.cost import Speed
from assay.evaluation.endpoints import check_unchanged
from assay.evaluation.execution.options import Options
from assay.evaluation.execution.ownership import HeldDirectory, arrange
from assay.evaluation.execution.parts import Part
from assay.evaluation.execution.progress import OnProgress, Progress, Tally
from assay.evaluation.executors import Answer, Done, Executor, Failed, Job
from assay.evaluation.loader import Loader
from assay.evaluation.plan import Plan
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.builder import all_failed
from assay.evaluation.records.certificates import FAILED as CERTIFICATE_ERROR
from assay.evaluation.records.certificates import all_unproved
from assay.evaluation.records.manifest import (
    CANCELLED,
    FAILED,
    SUCCESS,
    add_warnings,
    finish,
    new_manifest,
    read_manifest,
    write_manifest,
)
from assay.evaluation.records.schema import ERROR
from assay.evaluation.records.store import Store
from assay.evaluation.run import STUDY_FILE, Run
from assay.evaluation.study.yaml_source import write_yaml
from assay.files import DiskError, append_log, write_atomically
from assay.meter import Meter
from assay.models.remote.ledger import Ledger, current

# so many units whose workers died, and none that worked: it is not the samples
_DEATHS = 3


class RunFailed(AssayError):
    """A run that could not go on; what is finished is kept."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class _Proof:
    """Which models are known to work, and how many more dead units each of the others may have."""

    worked: set[str]
    chances: Counter[str]

    @classmethod
    def of(cls, todo: Sequence[Unit], finished: Sequence[Unit]) -> _Proof:
        """Return what is known before a run: what an earlier one finished has worked."""
        counts = Counter(unit.cell.model.label for unit in todo)
        chances = Counter({model: min(count, _DEATHS) for model, count in counts.items()})
        return cls({unit.cell.model.label for unit in finished}, chances)

    def hopeless(self, failed: Failed) -> bool:
        """Whether a failure says that the model cannot work, rather than that some samples cannot."""
        model = failed.unit.cell.model.label
        self.chances[model] -= 1 if failed.died else _DEATHS
        return model not in self.worked and self.chances[model] <= 0


@dataclasses.dataclass(frozen=True)
class Runner:
    """A run that holds its directory.

    `warnings` (of a look before the run) are for its manifest, `speeds` those of the models, by label; `meter`
    estimates the time left, and may expect other work beside the run.
    """

    directory: HeldDirectory
    plan: Plan
    options: Options
    loader: Loader
    warnings: Sequence[str] = ()
    speeds: Mapping[str, Speed] = dataclasses.field(default_factory=dict)
    meter: Meter = dataclasses.field(default_factory=Meter)

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.directory.folder

    @property
    def store(self) -> Store:
        """Where the records go."""
        return Store(self.folder)

    def run(self, on_progress: OnProgress = lambda progress: None) -> Run:
        """Do what is not done, or what is not of a share, and note how it ended."""
        if self.directory.part is not None:
            return self._run_share(self.directory.part, on_progress)
        engine = self.options.engine()
        before = read_manifest(self.folder)
        todo, warnings = self._todo()
        cells = {cell.digest: cell.plain() for cell in self.plan.cells}
        tally = Tally(self.plan.units, todo, self.speeds, self.meter, self._asked)
        on_progress(tally.read())
        if not todo and before.get("status") == SUCCESS and before["cells"] == cells and not warnings:
            self._keep_study()
            return Run.open(self.folder)
        manifest = new_manifest(self.plan, self.options.command or shlex.join(sys.argv), before)
        add_warnings(manifest, [*self.plan.notes, *self.directory.warnings, *self.warnings, *warnings])
        append_log(self.folder, f"{len(todo)} of {len(self.plan.units)} units to do")
        self._keep_study()
        write_manifest(self.folder, manifest)
        with self._ending(manifest):
            if self._ledger is not None:
                check_unchanged(todo, self.loader, self._ledger)
            self._do(engine, todo, tally, on_progress)
            self._pack(self.plan.cells)
        run = Run.open(self.folder)
        run.count_ahead()
        return run

    def _run_share(self, part: Part, on_progress: OnProgress) -> Run:
        engine, units = self.options.engine(), part.share.units(self.plan.units)
        todo, warnings = self._left_of(units)
        tally = Tally(units, todo, self.speeds, self.meter, self._asked)
        on_progress(tally.read())
        facts: dict[str, Any] = {
            "units": len(units) - len(todo),
            "planned": len(units),
            "warnings": list(dict.fromkeys([*self.directory.warnings, *self.warnings, *warnings])),
        }
        append_log(self.folder, f"share {part.share}: {len(todo)} of {len(units)} units to do")

        def hear(now: Progress) -> None:
            facts["units"] = now.units
            on_progress(now)

        with part.ending(facts):
            if self._ledger is not None:
                check_unchanged(todo, self.loader, self._ledger)
            self._do(engine, todo, tally, hear)
            facts["errors"] = self._chunks_with_errors(units)
        append_log(self.folder, f"share {part.share} ended")
        return Run.open(self.folder)

    def _keep_study(self) -> None:
        # its gate may have changed where no cell did
        path, text = self.folder / STUDY_FILE, write_yaml(self.plan.study.plain()).encode()
        if not path.is_file() or path.read_bytes() != text:
            write_atomically(path, text)

    def _chunks_with_errors(self, units: Sequence[Unit]) -> int:
        by_cell: dict[str, tuple[Cell, list[int]]] = {}
        for unit in units:
            by_cell.setdefault(unit.cell.digest, (unit.cell, []))[1].append(unit.chunk)
        return sum(len(self.store.erroneous(cell, chunks)) for cell, chunks in by_cell.values())

    def _left_of(self, units: Sequence[Unit]) -> tuple[list[Unit], list[str]]:
        """Return which of some units are not done. Others may be writing the rest of the directory meanwhile."""
        chunks: dict[str, set[int]] = {}
        for unit in units:
            chunks.setdefault(unit.cell.digest, set()).add(unit.chunk)
        cells = [cell for cell in self.plan.cells if cell.digest in chunks]
        done, damaged = self.store.done(cells, chunks)
        warnings = []
        for one in damaged:
            # a packed one may be of several shares, and another may have moved it
            with contextlib.suppress(*[] if one.path.exists() else [DiskError]):
                warnings.append(self.store.put_aside(one))
        if self.directory.taken_over:
            warnings.insert(0, "A share was killed; another process went on from its finished shards.")
        warnings += self._ledger.warnings if self._ledger is not None else []
        self._without_errors(cells, done)
        return [unit for unit in units if unit.chunk not in done[unit.cell.digest]], warnings

    def _todo(self) -> tuple[list[Unit], list[str]]:
        store, cells = self.store, self.plan.cells
        warnings = arrange(self.folder, self.directory.source, self.plan)
        if self.directory.taken_over:
            warnings.append("An earlier run here was killed; this one went on from its finished shards.")
        warnings += self._ledger.warnings if self._ledger is not None else []
        self._pack(cells)
        done, damaged = store.done(cells)
        self._without_errors(cells, done)
        return self.plan.todo(done), warnings + [store.put_aside(one) for one in damaged]

    def _without_errors(self, cells: Sequence[Cell], done: dict[str, set[int]]) -> None:
        if self.options.retry_errors:
            for cell in cells:
                done[cell.digest] -= self.store.erroneous(cell, done[cell.digest])

    @contextlib.contextmanager
    def _ending(self, manifest: dict[str, Any]) -> Iterator[None]:
        status = FAILED
        try:
            yield
            status = SUCCESS
        except KeyboardInterrupt:
            status = CANCELLED
            raise
        finally:
            finish(manifest, self.plan, status, self._errors())
            if self._ledger is not None:
                manifest["endpoints"] = plain(self.plan.models, self._ledger.spent())
            append_log(self.folder, f"ended: {status}")
            # where the disk is full the first error is the one to hear
            with contextlib.nullcontext() if status == SUCCESS else contextlib.suppress(DiskError):
                write_manifest(self.folder, manifest)

    @functools.cached_property
    def _ledger(self) -> Ledger | None:
        # made now: workers would all make it at once
        ledger = current() if any(facts.get("endpoints") for facts in self.plan.models.values()) else None
        if ledger is not None:
            ledger.open()
        return ledger

    def _asked(self) -> list[Budget]:
        return [] if self._ledger is None else budgets(self.plan.models, self._ledger.spent())

    def _errors(self) -> int:
        columns = (("status", ERROR, False), ("answer", CERTIFICATE_ERROR, True))
        return sum(
            int(pc.sum(pc.equal(piece[name], failed)).as_py() or 0)
            for name, failed, certifying in columns
            for piece in self.store.pieces(self._digests(certifying=certifying), [name], coded=True)
        )

    def _digests(self, *, certifying: bool) -> list[str]:
        return [cell.digest for cell in self.plan.cells if (cell.certificate is not None) == certifying]

    def _do(self, engine: Executor, todo: Sequence[Unit], tally: Tally, on_progress: OnProgress) -> None:
        limit = self.options.most_errors(sum(cell.n for cell in self.plan.cells))
        earlier = self._failed_samples() if limit < math.inf else 0
        if not todo and earlier > limit:
            # each share saw no more than it was allowed, and all together did
            raise RunFailed(self._too_many(earlier))
        proof = _Proof.of(todo, self._finished(todo))
        job = Job(self.folder, self.loader, endpoints=self._ledger is not None)
        with contextlib.closing(engine.run(todo, job)) as answers:  # type: ignore[type-var]  # a generator
            for answer in answers:
                done = self._settled(answer, proof)
                tally.add(done)
                self._say_how_far(tally)
                now = tally.read(done.unit.cell)
                if now.cell_finished and self.directory.part is None:
                    # shares beside each other leave that to who holds the directory alone
                    self._pack([done.unit.cell])
                on_progress(now)
                if earlier + tally.errors > limit:
                    raise RunFailed(self._too_many(earlier + tally.errors))

    def _say_how_far(self, tally: Tally) -> None:
        held = self.directory.held
        if held is None:
            return
        held.tell(*tally.units)
        if held.lost:
            raise RunFailed(
                f"Another process took over {held.what} in {self.folder}: this one gave no sign of life for a while. "
                "It ends here; what it finished is kept."
            )

    def _pack(self, cells: Sequence[Cell]) -> None:
        """Pack the shards of cells that have many; one that cannot be packed now stays as it is."""
        for cell in cells:
            try:
                self.store.compact(cell)
            except AssayError as error:
                append_log(self.folder, f"cell {cell.digest} was not packed: {error}")

    def _failed_samples(self) -> int:
        failed = set()
        for piece in self.store.pieces(self._digests(certifying=False), ["cell", "sample_id", "status"], coded=True):
            found = piece.filter(pc.equal(piece["status"], ERROR))
            failed |= set(zip(found["cell"].to_pylist(), found["sample_id"].to_pylist(), strict=True))
        return len(failed)

    def _finished(self, todo: Sequence[Unit]) -> list[Unit]:
        left = {(unit.cell.digest, unit.chunk) for unit in todo}
        return [unit for unit in self.plan.units if (unit.cell.digest, unit.chunk) not in left]

    def _settled(self, answer: Answer, proof: _Proof) -> Done:
        """Store what a unit gave; one that failed becomes error records, unless nothing of its model ever worked."""
        if isinstance(answer, Done):
            proof.worked.add(answer.unit.cell.model.label)
            self.store.put(answer.unit, answer.records, answer.pictures)
            return answer
        if answer.details:
            append_log(self.folder, f"cell {answer.unit.cell.digest} chunk {answer.unit.chunk}\n{answer.details}")
        if proof.hopeless(answer):
            raise RunFailed(
                f"{answer.unit.cell.model.label} failed before any of its samples could be evaluated: {answer.reason} "
                f"Put that right; the same command continues. ({self.folder / 'log'} may say more)"
            )
        return self._store_failure(answer)

    def _store_failure(self, failed: Failed) -> Done:
        unit = failed.unit
        append_log(self.folder, f"cell {unit.cell.digest} chunk {unit.chunk} became error records: {failed.reason}")
        data = self.loader.data(unit.cell.data, self.loader.model(unit.cell.model))
        positions = unit.cell.positions(unit.chunk)
        ids, labels = [data.ids[at] for at in positions], [data.labels[at] for at in positions]
        make = all_failed if unit.cell.certificate is None else all_unproved
        records = make(unit, ids, labels, failed.reason)
        self.store.write(unit, records)
        return Done(unit, records, b"", forwards=0, backwards=0, errors=len(ids), seconds=0.0)

    def _too_many(self, errors: int) -> str:
        example = ""
        for piece in self.store.pieces(self._digests(certifying=False), ["sample_id", "status", "error"]):
            if first := piece.filter(pc.equal(piece["status"], ERROR)).slice(0, 1).to_pylist():
                example = f" The first: {first[0]['sample_id']}: {first[0]['error']}"
                break
        return (
            f"{errors} samples could not be evaluated; fail_on_error allows {self.options.fail_on_error}.{example} "
            "Put it right and run with retry_errors, or allow more."
        )
