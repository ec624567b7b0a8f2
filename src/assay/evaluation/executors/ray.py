"""Actors of a Ray cluster, one per core or GPU. This file alone knows Ray, and imports it where it is used.

What travels is what travels to worker processes: names to the nodes, records and pictures back to the driver, which
alone writes. Little is asked of Ray, so that its failures stay few: it restarts no actor and retries no task. A worker
that cannot be reached is parked and pinged while others do its unit, and one that is dead is replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError, BadInput
from assay.evaluation.cell import Unit
from assay.evaluation.executors.base import Answer, Done, Failed, Job
from assay.evaluation.executors.node import Worker, told_to_nodes
from assay.evaluation.executors.processes import check_named, processors, rebuild_error
from assay.evaluation.executors.row import NOWHERE, Place, Row
from assay.evaluation.records.store import from_bytes
from assay.files import append_log

_STARTS = 3
_PAUSE = 1.0
_NOTICE = 30.0
_ANSWER = 10.0
_STORE = 200 * 2**20
# a path of a socket holds 107 bytes, and Ray adds some 70
_LONGEST = 30


@dataclasses.dataclass(frozen=True)
class Ray:
    """Runs units in a Ray cluster; a unit whose worker is lost is tried `retries` times more.

    `address` names a cluster (`auto`, `HOST:PORT`, `ray://HOST:PORT`); None makes one of this machine and ends it
    afterwards. There is a worker per core, or per GPU where models compute on one, at most `workers`. A run ends when
    the cluster has had no room for any worker for `patience` seconds.
    """

    workers: int | None = None
    address: str | None = None
    retries: int = 2
    patience: float = 600.0

    def __post_init__(self) -> None:
        """Raise `BadInput` where Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            raise BadInput("Ray is not installed. Install it with: pip install 'assay[ray]'")

    def run(self, units: Sequence[Unit], job: Job) -> Iterator[Answer]:
        """Yield one answer per unit, as they finish.

        Raises `BadInput` for models or data that exist in this process alone, for a cluster that cannot be reached or
        used, and what a worker raises as an `AssayError`, with its node.
        """
        check_named(units, job)
        if not units:
            return
        per_gpu = _on_gpu(job.loader.device)
        job.loader.release()
        with _connected(self, job.folder, per_gpu=per_gpu):
            crew = _Crew(self, units, job, per_gpu=per_gpu)
            try:
                yield from crew.answers()
            finally:
                crew.shutdown()


class _Placed(Worker):
    """A worker that says where it is: on one node all fail alike, as do all on one GPU."""

    def setup(self, told: dict[str, Any]) -> dict[str, Any]:
        import ray

        place = f"{ray.get_runtime_context().get_node_id()} {ray.get_gpu_ids()}"
        return {**super().setup(told), "place": place}


@dataclasses.dataclass(eq=False)
class _Member:
    """A worker as the driver knows it: the unit it has, whether it was ever ready, and when to ping it again."""

    handle: Any
    place: Place = NOWHERE
    unit: int | None = None
    ready: bool = False
    parked: bool = False
    ping_at: float | None = None

    @property
    def idle(self) -> bool:
        """Whether it could take a unit."""
        return self.ready and not self.parked and self.unit is None


class _Crew:
    """The workers of a run, what they were asked, and the units that nobody has."""

    def __init__(self, settings: Ray, units: Sequence[Unit], job: Job, *, per_gpu: bool) -> None:
        import ray

        self._settings, self._units, self._job = settings, units, job
        self._wanted = min(settings.workers or _room(per_gpu), len(units))
        needs = {"num_cpus": 1, "num_gpus": int(per_gpu), "max_restarts": 0, "max_task_retries": 0}
        self._actor = ray.remote(_Placed).options(scheduling_strategy="SPREAD", **needs)
        self._told, self._nonce = told_to_nodes(units, job)
        self._setup = ray.put(self._told)
        self._row = Row(units, settings.retries, lambda text: append_log(job.folder, text))
        self._members: list[_Member] = []
        self._asked: dict[Any, _Member] = {}
        self._starts_failed = 0
        self._left = len(units)
        self._alone_since, self._noticed = time.monotonic(), False

    def answers(self) -> Iterator[Answer]:
        """Yield one answer per unit."""
        import ray

        while self._left:
            self._deal()
            heard, _ = ray.wait(list(self._asked), num_returns=1, timeout=_PAUSE) if self._asked else ([], [])
            for call in heard:
                answer = self._hear(call, self._asked.pop(call))
                if answer is not None:
                    self._left -= 1
                    yield answer
            for failed in self._row.stuck(self._places(), starting=not all(one.ready for one in self._members)):
                self._left -= 1
                yield failed
            self._ping()
            self._lose_patience()
            if not self._asked:
                time.sleep(_PAUSE / 10)

    def _deal(self) -> None:
        """Give what waits to who is idle, start workers for the rest, and let go of those that nobody will need."""
        for member in [member for member in self._members if member.idle]:
            member.unit = self._row.take(member.place)
            if member.unit is not None:
                unit = self._units[member.unit]
                self._asked[member.handle.do.remote(unit.cell.digest, unit.chunk)] = member
        for _ in range(min(self._wanted - len(self._members), len(self._row))):
            member = _Member(self._actor.remote())
            self._members.append(member)
            self._asked[member.handle.setup.remote(self._setup)] = member
        # each unit that is being done may need another worker
        for member in [member for member in self._members if member.idle][self._left :]:
            self._dismiss(member)

    def _hear(self, call: Any, member: _Member) -> Answer | None:
        """Take what a worker answered. Raises the `AssayError` that it met."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

        try:
            told = ray.get(call)
        except ActorUnavailableError:
            return self._park(member, "its node cannot be reached")
        except RayActorError as error:
            return self._replace(member, error)
        except RayTaskError as error:
            raise AssayError(f"A worker failed{self._on(member)}: {str(error).strip().splitlines()[-1]}") from error
        except RayError as error:
            # the records were lost on their way: with their node, as a rule
            return self._park(member, _in_line(error))
        if member.parked or told is None:
            member.parked = False
            return None
        if "node" in told:
            member.place = Place(told["place"], told["node"])
        if "stop" in told:
            raise rebuild_error(told["kind"], f"{self._on(member, 'On node {}: ')}{told['stop']}")
        member.ready, self._starts_failed = True, 0
        return self._answer(member, told) if "node" not in told else None

    def _answer(self, member: _Member, told: dict[str, Any]) -> Answer | None:
        at, member.unit = member.unit, None
        assert at is not None, "a worker answers what it was asked"
        unit = self._units[at]
        if told["printed"]:
            append_log(self._job.folder, told["printed"].rstrip("\n"))
        if "failed" in told:
            return self._row.failed(at, member.place, Failed(unit, told["failed"], details=told["details"]))
        self._row.done(at, member.place)
        return Done(unit, from_bytes(told["records"]), told["pictures"], **told["done"])

    def _park(self, member: _Member, why: str) -> Answer | None:
        """Take a worker's unit away for others to do, and ask it later whether it is still there."""
        member.parked, member.ping_at = True, time.monotonic() + _PAUSE
        return self._lost(member, why)

    def _ping(self) -> None:
        for member in self._members:
            if member.ping_at is not None and member.ping_at <= time.monotonic():
                member.ping_at = None
                # one that was never ready is not made so by an answer
                call = member.handle.ping.remote() if member.ready else member.handle.setup.remote(self._setup)
                member.parked = member.ready
                self._asked[call] = member

    def _replace(self, member: _Member, error: Exception) -> Answer | None:
        """Note that a worker is dead. Raises `AssayError` when workers do not even start."""
        self._members.remove(member)
        if getattr(error, "actor_init_failed", False):
            raise AssayError(
                f"A worker could not be made in the cluster: {str(error).strip().splitlines()[-1]} Install the "
                "same assay, and what the study needs, on each node."
            )
        why = _in_line(error)
        if not member.ready:
            self._starts_failed += 1
            if self._starts_failed >= _STARTS:
                raise AssayError(f"Workers do not start in the cluster: {why}.")
        return self._lost(member, why)

    def _lost(self, member: _Member, why: str) -> Answer | None:
        """Put the unit of a worker first in the row again, or give it up."""
        at, member.unit = member.unit, None
        return None if at is None else self._row.died(at, why, self._on(member))

    def _places(self) -> set[Place]:
        return {member.place for member in self._members if member.ready and not member.parked}

    def _on(self, member: _Member, words: str = " on node {}") -> str:
        # on this machine alone the name says nothing
        return words.format(member.place.node) if self._settings.address is not None and member.place.node else ""

    def _lose_patience(self) -> None:
        now = time.monotonic()
        if any(member.ready and not member.parked for member in self._members):
            self._alone_since, self._noticed = now, False
        elif now - self._alone_since > min(_NOTICE, self._settings.patience) and not self._noticed:
            self._noticed = True
            append_log(self._job.folder, f"waiting for a worker; the cluster has {_resources()}")
        if now - self._alone_since > self._settings.patience:
            raise AssayError(
                f"The cluster has started no worker for {self._settings.patience:.0f} s; it has {_resources()}. "
                "What is finished is kept; free some of it or add a node, and the same command continues."
            )

    def _dismiss(self, member: _Member) -> None:
        import ray

        self._members.remove(member)
        # a cluster that is gone has no workers either
        with contextlib.suppress(Exception):
            ray.kill(member.handle, no_restart=True)

    def shutdown(self) -> None:
        """End every worker now."""
        for member in list(self._members):
            self._dismiss(member)
        if self._nonce is not None:
            self._nonce.unlink(missing_ok=True)


@contextlib.contextmanager
def _connected(settings: Ray, folder: Path, *, per_gpu: bool) -> Iterator[None]:
    """Be connected to a cluster, made for the while where no address is given. Raises `BadInput`.

    A connection that this process has already is used, and left.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # the workers that need no GPU may look for one, as the user's code does elsewhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    before, own = signal.getsignal(signal.SIGTERM), settings.address is None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_notes_to(folder))
        usual = {"log_to_driver": False, "logging_level": "ERROR"}
        made = _of_this_machine(stack, settings.workers, per_gpu=per_gpu) if own else {"address": settings.address}
        # Ctrl-C may come while it starts
        stack.callback(ray.shutdown)
        try:
            if not own:
                _knock(str(settings.address))
            ray.init(**usual, **made)
        # Ray raises errors of many kinds: wrong words, no cluster, another release of Python or of Ray, no token
        except Exception as error:
            raise BadInput(_unreached(settings.address, error)) from error
        finally:
            # Ray takes SIGTERM for itself
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)
        yield


def _knock(address: str) -> None:
    """Raise `OSError` where nobody answers at an address: Ray itself would try for many minutes."""
    from ray._private import services

    resolve = getattr(services, "canonicalize_bootstrap_address", None)
    found: str | None
    if address.startswith("ray://"):
        found = address.removeprefix("ray://").partition("/")[0]
    else:
        # Ray's own reading: what `auto` stands for, and this machine's address in place of 127.0.0.1
        found = resolve(address) if resolve is not None else None
    if not found:
        return
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
    except OSError as error:
        raise OSError(f"nothing answers at {found} ({error.strerror or error})") from error


def _of_this_machine(stack: contextlib.ExitStack, workers: int | None, *, per_gpu: bool) -> dict[str, Any]:
    """Return what makes a cluster of this machine alone, which leaves no file when `stack` ends."""
    _keep_token_in_memory(stack)
    root = tempfile.gettempdir()
    temporary = tempfile.mkdtemp(prefix="assay-ray-", dir=root if len(root) <= _LONGEST else "/tmp")
    stack.callback(shutil.rmtree, temporary, ignore_errors=True)
    cores = max(processors(), workers or 0) if per_gpu else workers or processors()
    return {
        "address": "local",
        "num_cpus": cores,
        "include_dashboard": False,
        "object_store_memory": _STORE,
        "_temp_dir": temporary,
        "_node_ip_address": "127.0.0.1",
    }


def _keep_token_in_memory(stack: contextlib.ExitStack) -> None:
    # without one Ray writes a token into the home directory
    known = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")
    if any(name in os.environ for name in known) or (Path.home() / ".ray" / "auth_token").exists():
        return
    os.environ["RAY_AUTH_TOKEN"] = _TOKEN
    for name in known:
        stack.callback(os.environ.pop, name, None)


# Ray reads it once in a process
_TOKEN = secrets.token_hex(32)


@contextlib.contextmanager
def _notes_to(folder: Path) -> Iterator[None]:
    """Send what Ray would print on standard output about each death, whatever it was told, to the log of the run."""
    from ray._private import worker

    def note(data: dict[str, Any], **_: Any) -> None:
        with contextlib.suppress(Exception):
            append_log(folder, "ray: " + "\n".join(data["lines"]))

    before = getattr(worker, "print_to_stdstream", None)
    if before is None:
        yield
        return
    worker.print_to_stdstream = note
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def _unreached(address: str | None, error: Exception) -> str:
    why = f"{_in_line(error).rstrip('.')}."
    if address is None:
        return f"Ray could not start on this machine: {why}"
    return (
        f"No Ray cluster could be used at {address!r}: {why} Expected auto, HOST:PORT or ray://HOST:PORT of a cluster "
        "that runs ('ray start --head' starts one); without --address a cluster of this machine alone is made."
    )


def _room(per_gpu: bool) -> int:
    import ray

    kind = "GPU" if per_gpu else "CPU"
    count = int(ray.cluster_resources().get(kind, 0))
    if count < 1:
        fix = "Leave --device out, or add a node with one." if per_gpu else "Add a node with one."
        raise BadInput(f"The Ray cluster has no {kind}. {fix}")
    return count


def _resources() -> str:
    import ray

    whole, free = ray.cluster_resources(), ray.available_resources()
    return " and ".join(f"{whole.get(one, 0):g} {one} ({free.get(one, 0):g} free)" for one in ("CPU", "GPU"))


def _on_gpu(device: str | None) -> bool:
    """Whether models compute on a GPU. Raises `BadInput` for one by its number: Ray gives each worker its own."""
    if device is None or not device.startswith("cuda"):
        return False
    if device not in ("cuda", "cuda:0"):
        raise BadInput(f"device is {device!r}, expected 'cuda': Ray gives each worker a GPU of its own.")
    return True


def _in_line(error: Exception) -> str:
    """Say in one line what Ray says in many."""
    text = " ".join(str(error).split())
    kind = re.search(r"Worker exit type: (\w+)", text)
    if kind is not None:
        return f"{kind[1]}; out of memory?"
    if re.search(r"node .{0,80}(died|dead|terminated)|(died|dead).{0,40}\bnode\b", text):
        return "its node died"
    return text[:300]
