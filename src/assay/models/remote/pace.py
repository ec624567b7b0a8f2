"""Requests at a rate that is kept: by the threads of a process, and by all processes of a user on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

# a time further ahead was written before the machine was started anew
_TOO_FAR = 3600.0


class Pace:
    """Lets through `per_second` requests, evenly spaced, whatever number of threads waits.

    Processes with the same `name`, such as the workers of a run, keep the rate together, where the system has locks on
    files: the time of the next request stands in a file of the user's own.
    """

    def __init__(
        self, per_second: float | None, sleep: Callable[[float], object] = time.sleep, *, name: str = ""
    ) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._sleep = sleep
        self._file = _file_of(name) if name and per_second else None

    def wait(self) -> None:
        """Return when it is this request's turn."""
        if not self._gap:
            return
        with self._lock, contextlib.ExitStack() as stack:
            shared = stack.enter_context(_locked(self._file)) if self._file else None
            now = time.monotonic()
            known = max(self._next, _read(shared, now))
            at = max(now, known)
            self._next = at + self._gap
            if shared is not None:
                shared.seek(0)
                shared.truncate()
                shared.write(repr(self._next))
        if at > now:
            self._sleep(at - now)


def _file_of(name: str) -> Path | None:
    if importlib.util.find_spec("fcntl") is None or not hasattr(os, "getuid"):
        return None
    folder = Path(tempfile.gettempdir()) / f"assay-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        told = folder.lstat()
        # a folder that somebody else made there is not written to
        if told.st_uid == os.getuid() and not told.st_mode & 0o077 and not folder.is_symlink():
            return folder / f"{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}.pace"
    return None


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[IO[str] | None]:
    import fcntl  # posix: `_file_of` names no file elsewhere

    try:
        opened = file.open("a+", encoding="ascii")
    except OSError:
        # a full disk: the rate is kept by this process alone
        yield None
        return
    with opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield opened


def _read(shared: IO[str] | None, now: float) -> float:
    if shared is None:
        return 0.0
    shared.seek(0)
    try:
        at = float(shared.read() or 0)
    except ValueError:
        return 0.0
    return at if at < now + _TOO_FAR else 0.0
