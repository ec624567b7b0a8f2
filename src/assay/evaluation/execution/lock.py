"""Who writes into a folder: one writer at a time, who is named to others, and a dead one's place is taken over.

The operating system lets go of a dead process's lock, so that on one machine nothing needs cleaning. Between machines
some disks have no locks, or each machine its own. There the file's content decides, which its holder changes every few
seconds: it is gone when nothing has changed for a while, on the clock of whoever watches. Clocks are never compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from assay.core.errors import BadInput
from assay.files import in_words, machine

NAME = "lock"
RUN, DOOR = "run", "door"
"""What a folder is held for: for a whole run, or for the moment in which somebody enters or leaves."""

BEAT = 5.0
"""So many seconds pass between two signs of life."""

SILENCE = 30.0
"""A holder on another machine that gave no sign for so many seconds is gone."""

# of one length, so that a sign of life needs no room on a full disk
_LENGTH = 768
_NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}
_SOON = 0.05
_PROBED = 1.0
_NAMING = 2.0
_PATIENCE = 600.0

Say = Callable[[str], None]


def unheard(text: str) -> None:
    """Say it to nobody."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock, as it says itself: since when by its own clock, for what, and how many units it has done.

    `beat` grows with every sign of life; a holder without it gives none.
    """

    pid: int
    host: str
    machine: str = ""
    since: str = ""
    what: str = RUN
    token: str = ""
    beat: int | None = None
    units: int | None = None
    planned: int | None = None

    @classmethod
    def here(cls, what: str) -> Holder:
        """Return this process as a holder."""
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), machine(), since, what, uuid.uuid4().hex, beat=0)

    @classmethod
    def of(cls, content: bytes) -> Holder | None:
        """Return the holder that a lock's content names, if it names one."""
        try:
            told = json.loads(content or b"{}")
        except ValueError:
            return None
        if not isinstance(told, dict) or not {"pid", "host"} <= told.keys():
            return None
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in told.items() if name in names})

    @property
    def local(self) -> bool:
        """Whether it is of this machine, since that was started: a free lock then says that it is gone."""
        return self.machine == machine() if self.machine else self.host == socket.gethostname()

    def __str__(self) -> str:
        """Return who it is in words."""
        who = f"process {self.pid} on {self.host}"
        return who if self.what in (RUN, DOOR) else f"{self.what} ({who})"


class InUse(BadInput):
    """A folder that somebody else writes into."""

    def __init__(self, message: str, holder: Holder | None) -> None:
        super().__init__(message)
        self.holder = holder


class Held:
    """A lock that this process holds. `taken_over` says that its last holder died."""

    def __init__(self, file: BinaryIO, holder: Holder, *, taken_over: bool) -> None:
        self._file, self._holder = file, holder
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self.taken_over, self.lost = taken_over, False
        # a full disk must not hide the error that filled it: the name is a courtesy, the lock itself holds without it
        self._write(first=True)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def tell(self, units: int, planned: int) -> None:
        """Say with the next sign of life how many units are done."""
        self._holder = dataclasses.replace(self._holder, units=units, planned=planned)

    @property
    def what(self) -> str:
        """What it is held for."""
        return self._holder.what

    def rename(self, what: str) -> None:
        """Hold it for something else."""
        self._holder = dataclasses.replace(self._holder, what=what)
        self._write()

    def end(self) -> None:
        """Take the name away; the lock goes with its file."""
        self._ended.set()
        self._thread.join()
        if not self.lost:
            with contextlib.suppress(OSError):
                self._file.truncate(0)

    def _live(self) -> None:
        while not self._ended.wait(BEAT):
            self._holder = dataclasses.replace(self._holder, beat=(self._holder.beat or 0) + 1)
            self._write()

    def _write(self, *, first: bool = False) -> None:
        with self._writing, contextlib.suppress(OSError):
            descriptor = self._file.fileno()
            there = None if first else Holder.of(_content(self._file))
            if there is not None and there.token != self._holder.token:
                # this process was silent for so long that another took its place
                self.lost = True
                self._ended.set()
                return
            told = json.dumps(dataclasses.asdict(self._holder)).encode()
            os.lseek(descriptor, 0, os.SEEK_SET)
            # over what was there, so that nobody ever finds it empty
            os.write(descriptor, told.ljust(_LENGTH))
            os.ftruncate(descriptor, _LENGTH)
            # other machines see what is on the disk
            os.fsync(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the right to write into `folder`; yields whether it was taken over from a run that died.

    Raises `InUse` while another run holds it.
    """
    with holding(folder / NAME) as held:
        yield held.taken_over


@contextlib.contextmanager
def holding(path: Path, what: str = RUN, *, say: Say = unheard) -> Iterator[Held]:
    """Hold the lock in the file `path` for `what`. Raises `InUse` while another process does.

    `say` hears when a holder on another machine has to be watched for a while.
    """
    file = _opened(path)
    with file:
        got, end = _try_lock(file), time.monotonic() + _PROBED
        while got is False and time.monotonic() < end:
            # whoever looks who is there has the lock for a moment
            time.sleep(_SOON)
            got = _try_lock(file)
        content = _content(file)
        holder = Holder.of(content)
        if got is False or (holder is not None and not _gone(path, got, holder, content, say)):
            raise InUse(_in_use(path, holder), holder)
        held = Held(file, Holder.here(what), taken_over=holder is not None)
        try:
            if got is None:
                # nothing stops two that come at once but that one of them wrote last
                time.sleep(4 * _SOON)
                held.rename(what)
                if held.lost:
                    other = Holder.of(_content(file))
                    raise InUse(_in_use(path, other), other)
            yield held
        finally:
            held.end()


@contextlib.contextmanager
def entering(folder: Path, *, say: Say = unheard) -> Iterator[Held]:
    """Hold `folder` for a moment, after others that do. Raises `InUse` where a whole run holds it."""
    began = time.monotonic()
    while True:
        with contextlib.ExitStack() as stack:
            try:
                held = stack.enter_context(holding(folder / NAME, DOOR, say=say))
            except InUse as error:
                waited = time.monotonic() - began
                passing = error.holder is not None and error.holder.what == DOOR
                # who has just come has not written its name yet, and may be refused itself
                if waited > (_PATIENCE if passing else _NAMING):
                    raise
            else:
                yield held
                return
        time.sleep(_SOON)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a lock's file says, and whether its holder lives; None where nothing is known of it yet."""

    path: Path
    content: bytes
    holder: Holder | None
    alive: bool | None

    def clear(self) -> None:
        """Take away the name of a holder that is gone, unless somebody else came meanwhile."""
        with contextlib.suppress(OSError), self.path.open("r+b", buffering=0) as file:
            if _try_lock(file) is not False and _content(file) == self.content:
                file.truncate(0)


def look(paths: Iterable[Path], seconds: float | None = None, say: Say = unheard) -> list[Found]:
    """Return who holds some locks, and who of them lives; those on other machines are watched for `seconds`.

    Without `seconds` it is as long as it takes to be sure; `say` hears that somebody is watched. Locks without a
    holder are left out.
    """
    found = [one for one in map(_found, paths) if one is not None]
    unsure = [one for one in found if one.alive is None]
    if not unsure:
        return found
    if seconds != 0:
        say(_watching(unsure, SILENCE if seconds is None else seconds))
    end = time.monotonic() + (SILENCE if seconds is None else seconds)
    heard: set[Path] = set()
    while len(heard) < len(unsure) and time.monotonic() < end:
        time.sleep(min(1.0, BEAT / 5))
        heard |= {one.path for one in unsure if one.path not in heard and _changed(one)}
    silent = False if seconds is None else None
    return [
        one if one.alive is not None else dataclasses.replace(one, alive=True if one.path in heard else silent)
        for one in found
    ]


def _found(path: Path) -> Found | None:
    try:
        with path.open("rb", buffering=0) as file:
            got = _try_lock(file, shared=True)
            content = _content(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from error
    holder = Holder.of(content)
    if got is False:
        return Found(path, content, holder, alive=True)
    if holder is None:
        return None
    if got and holder.local:
        return Found(path, content, holder, alive=False)
    if holder.beat is None:
        # one that gives no sign of life is never taken for dead on another machine
        return Found(path, content, holder, alive=not holder.local or not _no_process(holder.pid))
    return Found(path, content, holder, alive=None)


def _changed(found: Found) -> bool:
    try:
        return found.path.read_bytes() != found.content
    except OSError:
        return False


def _gone(path: Path, got: bool | None, holder: Holder, content: bytes, say: Say) -> bool:
    """Return whether the holder that a lock names is gone, where the system did not say that it is there."""
    if got and holder.local:
        return True
    if holder.beat is None:
        # where the platform has no locks, its number must be gone; of another host nothing is known
        return holder.local and _no_process(holder.pid)
    found = Found(path, content, holder, alive=None)
    say(_watching([found], SILENCE))
    end = time.monotonic() + SILENCE
    while time.monotonic() < end:
        time.sleep(min(1.0, BEAT / 5))
        if _changed(found):
            return False
    return True


def _watching(found: list[Found], seconds: float) -> str:
    who = ", ".join(str(one.holder) for one in found[:3]) + (" …" if len(found) > 3 else "")
    return f"Watching whether {who} still works: {seconds:.0f} s at most …"


def _in_use(path: Path, holder: Holder | None) -> str:
    fix = "Wait for it, stop it, or use another --out."
    if holder is not None and holder.beat is None and not holder.local:
        fix = f"If that run is gone, delete {path}; else use another --out."
    # locks of shares lie in a folder of the run's
    folder = path.parent if path.name == NAME else path.parent.parent
    return f"{folder} is being written by {holder or 'another process'}. {fix}{_array()}"


def _array() -> str:
    # many tasks on one directory are meant to share it
    many = os.environ.get("SLURM_ARRAY_TASK_COUNT", "1") != "1"
    return " In a job array, --share slurm gives each task its part." if many else ""


def _opened(path: Path) -> BinaryIO:
    try:
        # not for appending: a sign of life is written over the last one
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
    except OSError as error:
        raise in_words(error, path) from error


def _try_lock(file: BinaryIO, *, shared: bool = False) -> bool | None:
    """Return whether the lock is this process's now; None where the platform or the disk has no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _NO_LOCKS else False
    return True


def _content(file: BinaryIO) -> bytes:
    content = b""
    for _ in range(5):
        file.seek(0)
        content = file.read()
        if not content or Holder.of(content) is not None:
            break
        # it is being written
        time.sleep(_SOON)
    return content


def _no_process(pid: int) -> bool:
    try:
        os.kill(int(pid), 0)
    except OSError:
        return True
    return int(pid) == os.getpid()
