"""One writer per run directory: a second run is told so, and a dead one's lock is taken over."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from assay.core.errors import BadInput
from assay.files import in_words

NAME = "lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the right to write into `folder`; yields whether it was taken over from a run that died.

    Raises `BadInput` while another run holds it. The operating system lets go of a dead process's lock, so a stale
    one needs no cleaning; the file's content names the holder.
    """
    path = folder / NAME
    try:
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise in_words(error, path) from error
    with file:
        mine = _try_lock(file)
        holder = _holder(file)
        if not mine or (holder and not _dead(holder)):
            raise BadInput(_in_use(folder, holder))
        _write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        try:
            yield bool(holder)
        finally:
            _write(file, "")


def _in_use(folder: Path, holder: dict[str, Any]) -> str:
    who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    fix = "Wait for it, stop it, or use another --out."
    if holder and holder["host"] != socket.gethostname():
        fix = f"If that run is gone, delete {folder / NAME}; else use another --out."
    return f"{folder} is being written by {who}. {fix}"


def _try_lock(file: BinaryIO) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _holder(file: BinaryIO) -> dict[str, Any]:
    file.seek(0)
    try:
        told = json.loads(file.read() or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) and {"pid", "host"} <= told.keys() else {}


def _dead(holder: dict[str, Any]) -> bool:
    # on this host the lock itself was free, so whoever wrote its name is gone (or, where the platform has no such
    # locks, its number must be); of another host nothing is known
    if holder["host"] != socket.gethostname():
        return False
    if os.name == "posix":
        return True
    try:
        os.kill(int(holder["pid"]), 0)
    except OSError:
        return True
    return int(holder["pid"]) == os.getpid()


def _write(file: BinaryIO, text: str) -> None:
    # a full disk must not hide the error that filled it: the name is a courtesy, the lock itself holds without it
    with contextlib.suppress(OSError):
        file.seek(0)
        file.truncate()
        file.write(text.encode())
