"""Objects of a store: listed, and read whole or by ranges, with more tries where the store fails for a while."""

from __future__ import annotations

import dataclasses
import io
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from assay.core.errors import AssayError, BadInput, did_you_mean
from assay.data.stores.place import Place, credentials_advice, in_short
from assay.models.weights_file import Unavailable

TRIES = 5
PAUSE = 0.25
"""Seconds before the second try; each pause is three times the one before, and drawn within half of itself."""

# what another try cannot change
_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ImportError, NotImplementedError)
_NO_KEYS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError")
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "blob_id")
_draw = random.Random()  # not the global one: data sets are watched for drawing from it

T = TypeVar("T")


class ShortRead(OSError):
    """Fewer (or more) bytes than the listing says."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file of a store: its path there, its size (None where no listing says it), and what names its content or ""."""

    path: str
    size: int | None
    tag: str


def is_final(error: BaseException) -> bool:
    """Whether another try would end in the same error."""
    return isinstance(error, _FINAL) or type(error).__name__ in _NO_KEYS


def patiently(ask: Callable[[], T]) -> T:
    """Return what `ask` returns, tried up to five times within some ten seconds. Raises its last error."""
    for attempt in range(TRIES):
        try:
            return ask()
        except Exception as error:
            if attempt == TRIES - 1 or is_final(error):
                raise
        time.sleep(PAUSE * 3**attempt * (0.5 + _draw.random()))
    raise AssertionError("unreachable")


def read(place: Place, path: str, start: int = 0, size: int | None = None, *, whole: bool = True) -> bytes:
    """Return the bytes of an object, `size` of them from `start` on, or the whole.

    Raises what the store's library raises after the last try, and `ShortRead`.
    """

    def ask() -> bytes:
        if whole:
            content: bytes = place.fs.cat_file(path)
        else:
            content = place.fs.cat_file(path, start=start, end=start + (size or 0))
            if size is not None and len(content) > size:
                # a web server that knows no ranges sends everything
                content = content[start : start + size]
        if size is not None and len(content) != size:
            raise ShortRead(f"{len(content)} bytes came, and {size} were listed")
        return content

    return b"" if size == 0 else patiently(ask)


def files_below(place: Place, scheme: str) -> tuple[list[Entry], list[str]]:
    """Return all files below a place, and all folders there (paths as the store has them).

    Raises `BadInput` where there is nothing or it may not be read, `Unavailable` where the store does not answer.
    """
    place.fs.invalidate_cache()
    found: dict[str, dict[str, Any]] = asked(
        place, scheme, lambda: place.fs.find(place.path, withdirs=True, detail=True)
    )
    found = {path: about for path, about in found.items() if place.relative(path) and path != place.path}
    files = [entry(path, about) for path, about in found.items() if about.get("type") != "directory"]
    folders = [path for path, about in found.items() if about.get("type") == "directory"]
    if not files:
        raise BadInput(f"There are no files under {place.url} (from '{scheme}{place.url}').{_beside(place)}")
    return files, folders


def asked(place: Place, scheme: str, ask: Callable[[], T]) -> T:
    """Return what `ask` says of a place, its errors in words."""
    try:
        return patiently(ask)
    except Exception as error:
        raise in_words(place, scheme, error) from error


def in_words(place: Place, scheme: str, error: BaseException) -> AssayError:
    """Return what went wrong with a place, as the user can put it right."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return BadInput(f"There is nothing at {place.url} (from '{scheme}{place.url}').{_beside(place)}")
    if isinstance(error, IsADirectoryError):
        return BadInput(f"{place.url} is a folder, and a file was expected (from '{scheme}{place.url}').")
    if is_final(error):
        return BadInput(f"{place.url} may not be read: {in_short(error)}. {credentials_advice(place)}")
    return Unavailable(f"{place.url} does not answer ({TRIES} tries): {in_short(error)}")


def _beside(place: Place) -> str:
    """Say what lies beside a place that is not there."""
    parent, _, name = place.path.rstrip("/").rpartition("/")
    try:
        names = [str(one).rstrip("/").rpartition("/")[2] for one in place.fs.ls(parent, detail=False)] if parent else []
    except Exception:
        return ""
    names = [one for one in names if one != name]
    shown = f" Beside it lie {', '.join(sorted(names)[:5])}." if names else ""
    return did_you_mean(name, names) or shown


def entry(path: str, about: dict[str, Any]) -> Entry:
    """Return a file as a listing tells of it."""
    size = about.get("size")
    tag = next((str(about[key]) for key in _TAGS if about.get(key)), "")
    return Entry(path, None if size is None else int(size), tag.strip('"'))


class Windowed(io.RawIOBase):
    """An object as a file that can be read and sought in: each request fetches a window from where one reads."""

    def __init__(self, place: Place, path: str, size: int, window: int = 1 << 14) -> None:
        self.window = window
        self.size = size
        self._place, self._path = place, path
        self._at = 0
        self._held, self._from = b"", 0

    def readable(self) -> bool:
        """It can."""
        return True

    def seekable(self) -> bool:
        """It can."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; nothing is fetched."""
        self._at = max(0, offset + (0, self._at, self.size)[whence])
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def read(self, count: int | None = -1) -> bytes:
        """Return the next bytes, fewer at the end."""
        left = max(0, self.size - self._at)
        count = left if count is None or count < 0 else min(count, left)
        start = self._at - self._from
        if not 0 <= start <= len(self._held) - count:
            size = min(left, max(count, self.window))
            self._held = read(self._place, self._path, self._at, size, whole=False)
            self._from, start = self._at, 0
        self._at += count
        return self._held[start : start + count]

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
