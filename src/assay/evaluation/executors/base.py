"""What an executor is: it gets units done, somewhere, and returns their records. It writes nothing but the log."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import pyarrow as pa

from assay.core.errors import AssayError
from assay.evaluation.attack_unit import do
from assay.evaluation.cell import Unit
from assay.evaluation.certificate_unit import certify
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.records.gallery import encode
from assay.models.devices import of_another_device
from assay.models.failures import blamed, in_short, users_frame
from assay.models.remote.place import asking


@dataclasses.dataclass(frozen=True)
class Job:
    """What the units of a run have in common: where its log is, and how models and data are loaded.

    `endpoints`: whether models answer elsewhere, and what they answer is kept in the folder.
    """

    folder: Path
    loader: Loader
    endpoints: bool = False


@dataclasses.dataclass(frozen=True)
class Done:
    """A unit with its records and its pictures (the bytes of a safetensors file, none where it has none).

    `errors` counts its samples that could not be evaluated, `seconds` the wall time it took.
    """

    unit: Unit
    records: pa.Table
    pictures: bytes
    forwards: int
    backwards: int
    errors: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Failed:
    """A unit that could not be done: its code raised (`details` for the log), or the workers that tried it `died`."""

    unit: Unit
    reason: str
    died: bool = False
    details: str = ""


Answer: TypeAlias = Done | Failed


class Executor(Protocol):
    """Gets units done. Closing the iterator early stops the work."""

    def run(self, units: Sequence[Unit], job: Job) -> Iterator[Answer]:
        """Yield one answer per unit, in any order. An `AssayError` of a unit ends the run: it would not be the last."""


def perform(unit: Unit, loader: Loader) -> Answer:
    """Do a unit in this process. What endpoints are asked meanwhile is booked for it, in the ledger that is in use."""
    with asking(unit.cell.digest, unit.chunk):
        return _performed(unit, loader)


def _performed(unit: Unit, loader: Loader) -> Answer:
    began = time.perf_counter()
    experiment = Experiment.of(unit.cell, loader).load()
    try:
        if unit.cell.certificate is not None:
            return _certified(unit, experiment, began)
        outcome = do(unit, experiment)
    except AssayError:
        raise
    except Exception as error:
        if of_another_device(error) and (told := blamed(error)) is not None:
            # no sample is at fault, and where another worker's device is the right one its units would be done alone
            raise told from error
        return Failed(unit, failure(error), details=traceback.format_exc())
    pictures = encode(outcome.pictures) if outcome.pictures else b""
    spent = (outcome.forwards, outcome.backwards, outcome.errors, time.perf_counter() - began)
    return Done(unit, outcome.table, pictures, *spent)


def _certified(unit: Unit, experiment: Experiment, began: float) -> Done:
    table, proved = certify(unit, experiment)
    forwards, backwards = (0, 0) if proved is None else (int(one.sum()) for one in proved.cost[:2])
    errors = sum(one is not None for one in table["error"].to_pylist()) // len(unit.cell.budgets)
    return Done(unit, table, b"", forwards, backwards, errors, time.perf_counter() - began)


def failure(error: Exception) -> str:
    """Say what an error is, and in which line of which file."""
    if users_frame(error):
        return in_short(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{in_short(error)} ({Path(place.filename).name}:{place.lineno})"


@dataclasses.dataclass(frozen=True)
class Serial:
    """Runs units here."""

    def run(self, units: Sequence[Unit], job: Job) -> Iterator[Answer]:
        """Yield one answer per unit, in order."""
        for unit in units:
            yield perform(unit, job.loader)
