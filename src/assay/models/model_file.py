"""Files that hold a model: whether one is there, and its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from assay.core.errors import BadInput, did_you_mean


def check_there(path: Path, spec: str) -> None:
    """Raise `BadInput`, with the name of a file beside it that is nearly the same, unless `path` is a file."""
    if not path.is_file():
        raise BadInput(f"There is no file {path} (from {spec!r}).{nearly(path)}")


def nearly(path: Path) -> str:
    """Return " Did you mean ...?" for what lies in the same folder under nearly the same name; "" for nothing."""
    return did_you_mean(path.name, [one.name for one in path.parent.iterdir()]) if path.parent.is_dir() else ""


def digest_of_file(path: Path) -> str:
    """Return a digest of a file's bytes, 32 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
