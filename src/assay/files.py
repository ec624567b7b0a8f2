"""Files that hold all of their content or none of it, and errors of the disk in words."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import re
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from assay.core.errors import AssayError

TEMPORARY = ".writing-"

_LOST = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]", re.IGNORECASE)
_FAR = re.compile(r"([a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def url_of(path: str | os.PathLike[str]) -> str:
    """Return the URL that became a path, `s3:/bucket/run` of s3://bucket/run; "" of any other path."""
    name = os.fspath(path)
    return re.sub(r"(?i)^([a-z][a-z0-9+.-]+):/(?=[^/])", r"\1://", name) if _LOST.match(name) else ""


def is_far(name: str) -> bool:
    """Whether a name is a URL, not a path."""
    return _FAR.match(name) is not None


def cache_dir() -> Path:
    """Return `$ASSAY_CACHE`, or else the folder `assay` in the platform's place for caches."""
    named = os.environ.get("ASSAY_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "assay"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "assay" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay"


class DiskError(AssayError):
    """A file that could not be written: a full disk, a read-only place."""

    exit_code = 1


_FIXES = {
    errno.ENOSPC: "The disk is full. Free some space",
    errno.EDQUOT: "Your disk quota is used up. Free some space",
    errno.EROFS: "The place is read-only. Choose another --out, or make it writable",
    errno.EACCES: "You may not write there. Choose another --out, or change its permissions",
    errno.EPERM: "You may not write there. Choose another --out, or change its permissions",
}


def in_words(error: OSError, path: Path) -> DiskError:
    """Return what went wrong with `path`, and what helps."""
    fix = _FIXES.get(error.errno or 0, f"{error.strerror or error}. Put that right")
    return DiskError(f"{path} could not be written: {fix}; what is finished is kept, and the same command continues.")


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write `content` so that `path` holds all of it or does not change, whatever happens in between.

    The content is on the disk when this returns. Raises `DiskError`.
    """
    with writing_atomically(path) as file:
        file.write(content)


@contextlib.contextmanager
def writing_atomically(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write; `path` holds all of what was written once the block ends, or does not change.

    The content is on the disk then. Raises `DiskError`.
    """
    # two machines may have processes of one number
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise in_words(error, path) from error


def _sync_folder(folder: Path) -> None:
    # the new name itself must outlive a power cut; not every platform opens folders
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> int:
    """Remove what a killed writer left half-written under `folder`; return how many files."""
    left = list(folder.rglob(f"{TEMPORARY}*"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def append_log(folder: Path, text: str) -> None:
    """Add a dated line to a run directory's log; a log that cannot be written stops nothing."""
    dated = f"{datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')}  {text.rstrip()}\n"
    with contextlib.suppress(OSError), (folder / "log").open("a", encoding="utf-8") as file:
        file.write(dated)


def make_folder(folder: Path) -> None:
    """Create a folder and see that it can be written. Raises `DiskError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{TEMPORARY}{os.getpid()}-probe"
        probe.write_bytes(b"")
        # another process may clean up meanwhile
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise in_words(error, folder) from error


def machine() -> str:
    """Return what tells this machine, since it was started, from all others, whatever they are called."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode()}"
