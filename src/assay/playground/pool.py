"""The workers, and the fair queue before them. Nothing here imports torch: the server answers at once."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]

SECONDS = 60.0
"""What one attack may take."""
GRACE = 0.6
"""Seconds that a worker has to stop by itself: after the pass under way. Then it is ended and replaced."""
MOST_WAITING = 8
"""Jobs that one visitor may have waiting."""
MOST_WAITING_ALL = 100
ENDPOINTS = ("v1:", "v2:", "remote:")
"""How names of models begin that answer elsewhere."""
_LINE = 64 * 2**20
_NO_WORKER = {"event": "failed", "error": "No worker process can be started; the terminal says why."}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What workers are started with; `patches` are files of trained patches, `data` where samples come from."""

    models: tuple[str, ...]
    data: str | None = None
    patches: tuple[str, ...] = ()
    allow_pickle: bool = False


class Ticket:
    """One job: `events` is what happens, ended by `None`."""

    def __init__(self, number: int, visitor: str, request: Json, seconds: float) -> None:
        self.number, self.visitor, self.request, self.seconds = number, visitor, request, seconds
        self.events: asyncio.Queue[Json | None] = asyncio.Queue()
        self.worker: Worker | None = None
        self.why: Json | None = None
        self.over = self.begun = self.again = False

    def tell(self, event: Json) -> None:
        """Hand an event on, unless the job is over."""
        if not self.over:
            self.begun = True
            self.events.put_nowait(event)

    def end(self) -> None:
        """Close the job."""
        if not self.over:
            self.over = True
            self.events.put_nowait(None)


class Worker:
    """One process; `ticket` is what it works on."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.ticket: Ticket | None = None
        self.ready = False
        self.timers: list[asyncio.TimerHandle] = []
        self.reading: asyncio.Task[None] | None = None

    def send(self, request: Json) -> None:
        """Write a line to the process; one that is gone is noticed by who reads from it."""
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.process.stdin.write(json.dumps(request).encode() + b"\n")

    def kill(self) -> None:
        """End the process now."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class Pool:
    """So many workers for jobs of one sort, and those that wait: visitors take turns.

    `told` gets the events of workers that belong to no job: what there is to choose from.
    """

    def __init__(self, count: int, setting: Setting, told: Callable[[Json], None], *, samples: bool = False) -> None:
        self._count, self._setting, self._told, self._samples = count, setting, told, samples
        self.workers: list[Worker] = []
        self._waiting: collections.OrderedDict[str, collections.deque[Ticket]] = collections.OrderedDict()
        self._numbers = itertools.count(1)
        self._closed = False
        self._starting: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._given_up = False

    async def start(self) -> None:
        """Start the workers; they load while others go on."""
        await asyncio.gather(*(self._add() for _ in range(self._count)))

    async def close(self) -> None:
        """End all workers, and wait until they are gone."""
        self._closed = True
        for task in self._starting:
            task.cancel()
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            await worker.process.wait()
            if worker.reading is not None:
                worker.reading.cancel()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(map(len, self._waiting.values()))

    def submit(self, visitor: str, request: Json, seconds: float | None = None) -> Ticket | None:
        """Queue a job that may take so long; None where the visitor, or all of them, have too many waiting."""
        own = self._waiting.get(visitor, ())
        if len(own) >= MOST_WAITING or self.waiting >= MOST_WAITING_ALL:
            return None
        ticket = Ticket(next(self._numbers), visitor, request, SECONDS if seconds is None else seconds)
        if self._given_up:
            self.stop(ticket, _NO_WORKER)
            return ticket
        self._waiting.setdefault(visitor, collections.deque()).append(ticket)
        self._next()
        return ticket

    def stop(self, ticket: Ticket, why: Mapping[str, Any] | None = None) -> None:
        """Stop a job: one that waits at once, one under way within `GRACE` seconds, if need be with its process."""
        if ticket.over:
            return
        ticket.why = ticket.why or dict(why or {"event": "stopped"})
        worker = ticket.worker
        if worker is None:
            queue = self._waiting.get(ticket.visitor)
            if queue is not None and ticket in queue:
                queue.remove(ticket)
                if not queue:
                    del self._waiting[ticket.visitor]
            ticket.tell(ticket.why)
            ticket.end()
            return
        worker.send({"do": "stop", "job": ticket.number})
        worker.timers.append(asyncio.get_running_loop().call_later(GRACE, self._end_worker, worker, ticket))

    def _end_worker(self, worker: Worker, ticket: Ticket) -> None:
        if worker.ticket is ticket:
            worker.kill()

    def _next(self) -> None:
        for worker in self.workers:
            if not self._waiting:
                return
            if not worker.ready or worker.ticket is not None:
                continue
            # who was served last comes last
            visitor, queue = next(iter(self._waiting.items()))
            ticket = queue.popleft()
            del self._waiting[visitor]
            if queue:
                self._waiting[visitor] = queue
            self._give(worker, ticket)

    def _give(self, worker: Worker, ticket: Ticket) -> None:
        worker.ticket, ticket.worker = ticket, worker
        late = {
            "event": "failed",
            "error": f"It has taken the {ticket.seconds:g} seconds that it may. Fewer steps or queries, or a smaller "
            "picture, take less.",
        }
        worker.timers = [asyncio.get_running_loop().call_later(ticket.seconds, self.stop, ticket, late)]
        worker.send({**ticket.request, "job": ticket.number})

    async def _add(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        # in a session of its own: Ctrl-C is for the server, which ends its workers
        apart: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {"creationflags": 0x200}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "assay.playground.worker", env=environment, limit=_LINE,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, **apart,
        )  # fmt: skip
        worker = Worker(process)
        self.workers.append(worker)
        if self._closed:
            worker.kill()
        worker.send({**dataclasses.asdict(self._setting), "samples": self._samples})
        worker.reading = asyncio.create_task(self._read(worker))

    async def _read(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        while line := await worker.process.stdout.readline():
            event = json.loads(line)
            job = event.pop("job")
            if job == 0:
                self._of_worker(worker, event)
            elif worker.ticket is not None and worker.ticket.number == job:
                self._of_job(worker, worker.ticket, event)
        await worker.process.wait()
        if self._closed:
            return
        self._lost(worker)

    def _of_worker(self, worker: Worker, event: Json) -> None:
        if event["event"] == "idle":
            worker.ready, self._failures = True, 0
            self._next()
        self._told(event)

    def _of_job(self, worker: Worker, ticket: Ticket, event: Json) -> None:
        if event["event"] == "stopped" and ticket.why is not None:
            event = ticket.why
        if event["event"] != "end":
            ticket.tell(event)
            return
        self._free(worker)
        ticket.end()
        self._next()

    def _free(self, worker: Worker) -> None:
        for timer in worker.timers:
            timer.cancel()
        worker.timers, worker.ticket = [], None

    def _lost(self, worker: Worker) -> None:
        ticket = worker.ticket
        self._free(worker)
        self.workers.remove(worker)
        if ticket is not None and not (ticket.begun or ticket.again or ticket.why):
            # it came to a process that was gone already: another one may do it
            ticket.again, ticket.worker = True, None
            self._waiting.setdefault(ticket.visitor, collections.deque()).appendleft(ticket)
            self._next()
        elif ticket is not None:
            ended = {"event": "failed", "error": "The process of the attack ended: memory, or code of the model."}
            ticket.tell(ticket.why or ended)
            ticket.end()
        # one that never came up is not tried for ever
        self._failures += not worker.ready
        if self._failures < 3:
            task = asyncio.create_task(self._add())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
            return
        if not self.workers:
            self._given_up = True
            self._told({"event": "note", "text": _NO_WORKER["error"]})
            for waiting in [one for queue in self._waiting.values() for one in queue]:
                self.stop(waiting, _NO_WORKER)


def worker_count() -> int:
    """Return how many attacks go on at a time: one per processor, at most 2, since each process holds all models."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(2, usable))


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return names once each, in their order."""
    return tuple(dict.fromkeys(names))


def refused_endpoint(name: str) -> str:
    """Return why an endpoint is not loaded here."""
    return (
        f"{name} is an endpoint: every query would leave this machine and may cost money, and a visitor's click is no "
        "consent to that. The playground asks models on this machine alone; assay run asks endpoints, within limits."
    )
