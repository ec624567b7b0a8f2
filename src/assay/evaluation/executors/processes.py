"""Worker processes of one thread each. They load the model themselves, send their records back, and may die.

Units travel by name, in lines of JSON; records and pictures come back as bytes behind such a line, so that workers need
no disk in common. A fresh interpreter per worker needs neither a guarded main module nor anything that can be pickled.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from assay.core.errors import AssayError, BadInput
from assay.data.corruption import take_view
from assay.evaluation.cell import Unit
from assay.evaluation.executors.base import Answer, Done, Failed, Job
from assay.evaluation.records.store import from_bytes
from assay.evaluation.study.surrogates import names

_ENTRY = "from assay.evaluation.executors.worker import main; main()"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_STARTS = 3
_LAST_WORDS = 2.0


@dataclasses.dataclass(frozen=True)
class Processes:
    """Runs units in `workers` processes; a unit whose worker dies is tried `retries` times more.

    With `devices` there is one process for each of them (a device that stands there twice has two), or `workers` in
    all, dealt out in turn; a process that takes the place of a dead one takes its device.
    """

    workers: int | None = None
    retries: int = 2
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse devices that nobody would compute on."""
        if self.devices and self.workers is not None and self.workers < len(self.devices):
            raise BadInput(
                f"workers is {self.workers}, fewer than the devices ({', '.join(self.devices)}): some would have "
                f"nobody. Take {len(self.devices)} or more, leave workers out, or name fewer devices."
            )

    def run(self, units: Sequence[Unit], job: Job) -> Iterator[Answer]:
        """Yield one answer per unit, as they finish.

        Raises `BadInput` for models or data that exist in this process alone, and what a worker raises as an
        `AssayError`.
        """
        check_named(units, job)
        job.loader.release()
        pool = _WorkerPool(job, units, self.devices)
        waiting = collections.deque(enumerate(units))
        tries: collections.Counter[int] = collections.Counter()
        try:
            for _ in range(min(self.workers or len(self.devices) or processors(), len(units))):
                pool.start(waiting)
            while pool.members:
                worker, message = pool.events.get()
                if message is not None:
                    answer = pool.handle(worker, message, waiting)
                    if answer is not None:
                        yield answer
                    continue
                if worker not in pool.members:
                    continue
                at, code = pool.remove(worker)
                if at is not None:
                    tries[at] += 1
                    if tries[at] > self.retries:
                        yield Failed(units[at], _failure_text(code, tries[at]), died=True)
                    else:
                        waiting.appendleft((at, units[at]))
                if waiting:
                    pool.start(waiting)
        finally:
            pool.shutdown()


@dataclasses.dataclass(frozen=True)
class _Message:
    """What a worker says, and the bytes that came with it."""

    told: dict[str, Any]
    parts: list[bytes]


class _Worker:
    """A worker process, its device ("" for the run's), the unit it has, and whether it has ever been ready."""

    def __init__(self, process: subprocess.Popen[bytes], device: str) -> None:
        self.process, self.device = process, device
        self.unit: int | None = None
        self.ready = False
        self.leaving = False

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message; that a worker is gone is heard on its other end."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()


class _WorkerPool:
    """The workers alive, and what they say."""

    def __init__(self, job: Job, units: Sequence[Unit], devices: Sequence[str] = ()) -> None:
        self._job, self._devices = job, devices
        self._units = units
        self._starts_failed = 0
        self.members: list[_Worker] = []
        self.events: queue.SimpleQueue[tuple[_Worker, _Message | None]] = queue.SimpleQueue()

    def start(self, waiting: collections.deque[tuple[int, Unit]]) -> None:
        """Start a worker."""
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        alone = {"process_group": 0} if os.name == "posix" else {"creationflags": 0x200}
        with (self._job.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _ENTRY],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **dict.fromkeys(_THREADS, "1"), "PYTHONPATH": path},
                **alone,  # type: ignore[call-overload]  # a group of its own: Ctrl-C is the parent's to handle
            )
        worker = _Worker(process, self._next_device())
        self.members.append(worker)
        threading.Thread(target=_listen, args=(worker, process.stdout, self.events), daemon=True).start()
        threading.Thread(target=_watch_exit, args=(worker, self.events), daemon=True).start()
        told = told_to_workers(self._units, self._job)
        if worker.device:
            told["loader"]["device"] = worker.device
        worker.tell(told)

    def _next_device(self) -> str:
        """Return the device that fewest workers are on, for how often it is named; "" where none is."""
        busy = collections.Counter(one.device for one in self.members)
        named = collections.Counter(self._devices)
        return min(named, key=lambda name: busy[name] / named[name], default="")

    def handle(self, worker: _Worker, message: _Message, waiting: collections.deque[tuple[int, Unit]]) -> Answer | None:
        """Take a worker's word, and give it the next unit. Raises the `AssayError` that a worker met."""
        told = message.told
        if "stop" in told:
            raise rebuild_error(told["kind"], told["stop"])
        answer: Answer | None = None
        if worker.unit is not None:
            unit = self._units[worker.unit]
            if "failed" in told:
                answer = Failed(unit, told["failed"], details=told["details"])
            else:
                records, pictures = message.parts
                answer = Done(unit, from_bytes(records), pictures, **told["done"])
        worker.ready, worker.unit, self._starts_failed = True, None, 0
        if waiting:
            worker.unit, unit = waiting.popleft()
            worker.tell({"cell": unit.cell.digest, "chunk": unit.chunk})
        else:
            worker.leaving = True
            worker.tell({"leave": True})
        return answer

    def remove(self, worker: _Worker) -> tuple[int | None, int]:
        """Note that a worker is gone; return the unit it took with it, and how it ended."""
        self.members.remove(worker)
        code = _end(worker.process)
        if not worker.ready:
            self._starts_failed += 1
            if self._starts_failed >= _STARTS:
                raise AssayError(f"Worker processes do not start; {self._job.folder / 'log'} says why.")
        return worker.unit, code

    def shutdown(self) -> None:
        """Stop every worker now."""
        for worker in self.members:
            worker.process.kill()
        for worker in self.members:
            _end(worker.process)
        self.members.clear()


def told_to_workers(units: Sequence[Unit], job: Job) -> dict[str, Any]:
    """Return what a worker is told of a run: its cells by their digests, how things are loaded, and the folder."""
    kept = ("device", "allow_pickle", "batch", "allow_random_data")
    settings = {name: getattr(job.loader, name) for name in kept}
    cells = {unit.cell.digest: unit.cell.plain() for unit in units}
    return {"cells": cells, "loader": settings, "folder": str(job.folder)}


def rebuild_error(kind: list[str], text: str) -> AssayError:
    """Return the error that a worker met, of its own kind (module and name) where that is one of the package's."""
    module, name = kind
    found = getattr(importlib.import_module(module), name, None) if module.startswith("assay.") else None
    if not (isinstance(found, type) and issubclass(found, AssayError)):
        return AssayError(text)
    # made without its constructor, which may take other things than a text
    return found.__new__(found, text)


def check_named(units: Sequence[Unit], job: Job) -> None:
    """Raise `BadInput` for models, data and masks that a worker could not load by name."""
    for unit in units:
        source, surrogate = unit.cell.data.source, unit.cell.attack.options.get("surrogate")
        models = (unit.cell.model.model, unit.cell.model.like, *(names(surrogate) if surrogate else ()))
        for model in (one for one in models if one in job.loader.models):
            raise BadInput(
                f"The model {model} exists in this Python process alone and cannot be sent to workers. Name it as "
                "'my.py:factory' or 'package.module:factory', or use executor='serial'."
            )
        if unit.cell.threat.mask in job.loader.masks:
            raise BadInput(
                f"The mask {unit.cell.threat.mask} exists in this Python process alone and cannot be sent to workers. "
                "Save it as .npy and name the file (mask: mask.npy), or use executor='serial'."
            )
        if not job.loader.datasets.keys().isdisjoint((source, take_view(source)[0])):
            raise BadInput(
                f"The data {source} exists in this Python process alone and cannot be sent to workers. Give its "
                "source as text ('folder:DIR', 'mnist/test'), or use executor='serial'."
            )


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _listen(worker: _Worker, pipe: IO[bytes], events: queue.SimpleQueue[tuple[_Worker, _Message | None]]) -> None:
    with pipe:
        for line in pipe:
            told = _read(line)
            if told is None:
                continue
            lengths = told.pop("lengths")
            parts = [pipe.read(length) for length in lengths]
            if [len(part) for part in parts] != lengths:
                break  # it died while it was sending
            events.put((worker, _Message(told, parts)))
    events.put((worker, None))


def _read(line: bytes) -> dict[str, Any] | None:
    # what code prints before the worker could take its output away is no message
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "lengths" in told else None


def _watch_exit(worker: _Worker, events: queue.SimpleQueue[tuple[_Worker, _Message | None]]) -> None:
    # a process that the worker forked may keep its pipe open after it; what it said is read by then
    worker.process.wait()
    time.sleep(_LAST_WORDS)
    events.put((worker, None))


def _end(process: subprocess.Popen[bytes]) -> int:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    return process.wait()


def _failure_text(code: int, tries: int) -> str:
    how = f"killed by signal {-code}" if code < 0 else f"with exit code {code}"
    memory = "; out of memory?" if code == -9 else ""
    return f"The worker process died ({how}{memory}), at each of {tries} tries."
