"""Writing files that are whole or absent, whenever the machine stops."""

from __future__ import annotations

import os
from pathlib import Path

from assay.core.errors import AssayError


class NotWritten(AssayError):
    """A file that could not be written: a full disk, or a directory without permission."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds all of it or does not change, making its directory where needed.

    Raises `NotWritten` when the disk is full or the directory does not allow it.
    """
    # one name per process: several may fetch the same file at once, and each puts the same content in place
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotWritten(f"{path} could not be written: {reason}. Make room there, or name another place.") from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
