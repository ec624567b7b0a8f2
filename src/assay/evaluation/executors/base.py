"""What an executor is: it gets units done, somewhere, and says so. Records go straight to the store."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from assay.core.errors import AssayError
from assay.evaluation.attack_unit import do
from assay.evaluation.cell import Unit
from assay.evaluation.experiment import Experiment
from assay.evaluation.files import append_log, write_atomically
from assay.evaluation.loader import Loader
from assay.evaluation.records.gallery import encode
from assay.evaluation.records.store import Store
from assay.models.failures import in_short, users_frame


@dataclasses.dataclass(frozen=True)
class Job:
    """What the units of a run have in common: where the records go, and how models and data are loaded."""

    folder: Path
    loader: Loader

    @property
    def store(self) -> Store:
        """Where the records go."""
        return Store(self.folder)


@dataclasses.dataclass(frozen=True)
class Done:
    """A unit whose records are in the store; `errors` counts its samples that could not be evaluated.

    `seconds` is the wall time it took, storing included.
    """

    unit: Unit
    forwards: int
    backwards: int
    errors: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Failed:
    """A unit that could not be done: its code raised, or the workers that tried it `died`. Nothing is stored."""

    unit: Unit
    reason: str
    died: bool = False


Answer: TypeAlias = Done | Failed


class Executor(Protocol):
    """Gets units done. Closing the iterator early stops the work; what is stored stays."""

    def run(self, units: Sequence[Unit], job: Job) -> Iterator[Answer]:
        """Yield one answer per unit, in any order. An `AssayError` of a unit ends the run: it would not be the last."""


def perform(unit: Unit, job: Job) -> Answer:
    """Do a unit in this process, and store its records."""
    began = time.perf_counter()
    experiment = Experiment.of(unit.cell, job.loader).load()
    try:
        outcome = do(unit, experiment)
    except AssayError:
        raise
    except Exception as error:
        append_log(job.folder, f"cell {unit.cell.digest} chunk {unit.chunk}\n{traceback.format_exc()}")
        return Failed(unit, failure(error))
    if outcome.pictures:
        write_atomically(job.store.pictures(unit.cell.digest, unit.chunk), encode(outcome.pictures))
    job.store.write(unit, outcome.table)
    return Done(unit, outcome.forwards, outcome.backwards, outcome.errors, time.perf_counter() - began)


def failure(error: Exception) -> str:
    """Say what an error is, and in which line of which file."""
    if users_frame(error):
        return in_short(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{in_short(error)} ({Path(place.filename).name}:{place.lineno})"
