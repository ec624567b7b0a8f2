"""The bytes of a picture file under its name, for readers of pictures that take a path otherwise."""

from __future__ import annotations

import dataclasses
import io
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import overload


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


class HeldFiles(Sequence[Held]):
    """Files that are fetched when they are asked for, by their places as in any sequence."""

    @overload
    def __getitem__(self, at: int) -> Held: ...
    @overload
    def __getitem__(self, at: slice) -> list[Held]: ...
    def __getitem__(self, at: int | slice) -> Held | list[Held]:
        """Return the file at a place, counted from the end below 0. Raises `IndexError` where there is none."""
        places = range(len(self))[at]
        return self.fetch(places) if isinstance(places, int) else [self.fetch(one) for one in places]

    @abstractmethod
    def fetch(self, at: int) -> Held:
        """Return the file at a place from 0 on. Raises `PictureError` where it cannot be had."""


PictureFile = Path | Held


def for_library(file: PictureFile) -> Path | io.BytesIO:
    """Return what Pillow and tifffile open: the path, or the bytes as a file."""
    return file.open() if isinstance(file, Held) else file


def picture_file(given: str | Path | Held) -> PictureFile:
    """Return a path for text, and anything else as it is."""
    return Path(given) if isinstance(given, str) else given
