"""Tar shards of pictures as people and programs write them, and the same pictures as a folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def png(seed: int, side: int = 12) -> bytes:
    """Return a picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_tar(
    path: Path, members: Iterable[tuple[str, bytes]] | Mapping[str, bytes], form: int = tarfile.GNU_FORMAT
) -> Path:
    """Write members in this order, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(key: str, seed: int, label: object) -> list[tuple[str, bytes]]:
    """Return the two members of a usual sample."""
    return [(f"{key}.png", png(seed)), (f"{key}.cls", str(label).encode())]
