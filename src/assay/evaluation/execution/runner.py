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
from assay.evaluation.cell import Unit
from assay.evaluation.cost import Speed
from assay.evaluation.endpoints import Budget, budgets, check_unchanged, plain
from assay.evaluation.execution.options import Options
from assay.evaluation.execution.ownership import HeldDirectory
from assay.evaluation.execution.progress import OnProgress, Tally
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
        """Do what is not done, and note how it ended."""
        engine = self.options.engine()
        before = read_manifest(self.folder)
        todo, warnings = self._todo(self.directory.source, self.directory.taken_over)
        cells = {cell.digest: cell.plain() for cell in self.plan.cells}
        tally = Tally(self.plan.units, todo, self.speeds, self.meter, self._asked)
        on_progress(tally.read())
        if not todo and before.get("status") == SUCCESS and before["cells"] == cells and not warnings:
            self._keep_study()
            return Run.open(self.folder)
        manifest = new_manifest(self.plan, self.options.command or shlex.join(sys.argv), before)
        add_warnings(manifest, [*self.plan.notes, *self.warnings, *warnings])
        append_log(self.folder, f"{len(todo)} of {len(self.plan.units)} units to do")
        self._keep_study()
        write_manifest(self.folder, manifest)
        with self._ending(manifest):
            if self._ledger is not None:
                check_unchanged(todo, self.loader, self._ledger)
            self._do(engine, todo, tally, on_progress)
        return Run.open(self.folder)

    def _keep_study(self) -> None:
        # its gate may have changed where no cell did
        path, text = self.folder / STUDY_FILE, write_yaml(self.plan.study.plain()).encode()
        if not path.is_file() or path.read_bytes() != text:
            write_atomically(path, text)

    def _todo(self, source: Path | None, taken_over: bool) -> tuple[list[Unit], list[str]]:
        store, cells = self.store, self.plan.cells
        store.clean()
        warnings = []
        if source is not None:
            count = store.take_from(Store(source), cells)
            warnings.append(f"Forked from {source}: {count} finished shards are its.")
        if taken_over:
            warnings.append("An earlier run here was killed; this one went on from its finished shards.")
        gone = store.keep_only(cells)
        if gone:
            warnings.append(f"{len(gone)} cells are no longer in the study; their records rest in retired/.")
        warnings += self._ledger.warnings if self._ledger is not None else []
        done, damaged = store.done(cells)
        if self.options.retry_errors:
            for cell in cells:
                done[cell.digest] -= store.erroneous(cell, done[cell.digest])
        return self.plan.todo(done), warnings + [store.put_aside(one) for one in damaged]

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
        attacked, certifying = self._digests(certifying=False), self._digests(certifying=True)
        status = self.store.read(attacked, ["status"])["status"]
        failed = [int(pc.sum(pc.equal(status, ERROR)).as_py() or 0)]
        if certifying:
            answer = self.store.read(certifying, ["answer"])["answer"]
            failed.append(int(pc.sum(pc.equal(answer, CERTIFICATE_ERROR)).as_py() or 0))
        return sum(failed)

    def _digests(self, *, certifying: bool) -> list[str]:
        return [cell.digest for cell in self.plan.cells if (cell.certificate is not None) == certifying]

    def _do(self, engine: Executor, todo: Sequence[Unit], tally: Tally, on_progress: OnProgress) -> None:
        limit = self.options.most_errors(sum(cell.n for cell in self.plan.cells))
        earlier = self._failed_samples() if limit < math.inf else 0
        proof = _Proof.of(todo, self._finished(todo))
        job = Job(self.folder, self.loader, endpoints=self._ledger is not None)
        with contextlib.closing(engine.run(todo, job)) as answers:  # type: ignore[type-var]  # a generator
            for answer in answers:
                done = self._settled(answer, proof)
                tally.add(done)
                on_progress(tally.read(done.unit.cell))
                if earlier + tally.errors > limit:
                    raise RunFailed(self._too_many(earlier + tally.errors))

    def _failed_samples(self) -> int:
        records = self.store.read(self._digests(certifying=False), ["cell", "sample_id", "status"])
        failed = records.filter(pc.equal(records["status"], ERROR))
        return int(failed.group_by(["cell", "sample_id"]).aggregate([]).num_rows)

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
        status = self.store.read(self._digests(certifying=False), ["sample_id", "status", "error"])
        first = status.filter(pc.equal(status["status"], ERROR)).slice(0, 1).to_pylist()
        example = f" The first: {first[0]['sample_id']}: {first[0]['error']}" if first else ""
        return (
            f"{errors} samples could not be evaluated; fail_on_error allows {self.options.fail_on_error}.{example} "
            "Put it right and run with retry_errors, or allow more."
        )
