"""What the references did, kept by a hash of everything it depends on, so that a second run only runs our side."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.strength.board import Task

# raised when the harness measures differently
HARNESS = 1


def key(task: Task, version: str, weights: tuple[str, ...], pictures: str) -> str:
    """Return the key of a reference's result: library version, task with options and seed, weights and images."""
    told = [HARNESS, version, list(weights), pictures, task.plain()]
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).hexdigest()


def read(file: Path) -> dict[str, Any]:
    """Return the results on file."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return kept


def keep(file: Path, name: str, result: dict[str, Any]) -> None:
    """Add a result to the file, with what other runs have added meanwhile."""
    kept = read(file) | {name: result}
    lines = ",\n".join(f"{json.dumps(one)}: {json.dumps(kept[one])}" for one in sorted(kept))
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text("{\n" + lines + "\n}\n")
    partial.replace(file)
