"""The bytes of a picture file under its name, for readers of pictures that take a path otherwise."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path, PurePosixPath


@dataclasses.dataclass(frozen=True)
class Held:
    """A file that lies in no folder here: what readers of pictures ask of a path, its bytes answer."""

    name: str
    content: bytes

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Return the bytes as a file. Only `mode` "rb" makes sense."""
        assert mode == "rb"
        return io.BytesIO(self.content)

    def read_bytes(self) -> bytes:
        """Return the bytes."""
        return self.content


PictureFile = Path | Held


def for_library(file: PictureFile) -> Path | io.BytesIO:
    """Return what Pillow and tifffile open: the path, or the bytes as a file."""
    return file.open() if isinstance(file, Held) else file


def picture_file(given: str | Path | Held) -> PictureFile:
    """Return a path for text, and anything else as it is."""
    return Path(given) if isinstance(given, str) else given
