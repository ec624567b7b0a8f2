"""What rows are asked for, whether known ones are asked again, and the names under which answers are kept."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator


@dataclasses.dataclass
class Place:
    """What rows are asked for: a cell (its digest) and chunk, or a name such as `audit`; and how often each was."""

    name: str = ""
    chunk: int | None = None
    times: Counter[bytes] = dataclasses.field(default_factory=Counter)


_PLACE: contextvars.ContextVar[Place | None] = contextvars.ContextVar("what rows are asked for", default=None)
_FRESH: contextvars.ContextVar[bool | None] = contextvars.ContextVar("ask again what is known", default=False)


def place() -> Place | None:
    """Return what rows are asked for now, where anybody said so."""
    return _PLACE.get()


def is_fresh() -> bool:
    """Whether every row is sent, known or not."""
    return bool(_FRESH.get())


@contextlib.contextmanager
def asking(name: str, chunk: int | None = None) -> Iterator[None]:
    """Book what endpoints are asked meanwhile under `name`: a cell's digest (and its chunk), or a word."""
    token = _PLACE.set(Place(name, chunk))
    try:
        yield
    finally:
        _PLACE.reset(token)


@contextlib.contextmanager
def asked_before() -> Iterator[None]:
    """Let `fresh` mean nothing meanwhile: whoever asks has asked the same before, and was answered."""
    token = _FRESH.set(None)
    try:
        yield
    finally:
        _FRESH.reset(token)


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """Send every row meanwhile, known or not and equal ones too: for who asks whether an endpoint repeats itself.

    It is counted, and taken from what is allowed. What was known stays as it is.
    """
    token = _FRESH.set(None if _FRESH.get() is None else True)
    try:
        yield
    finally:
        _FRESH.reset(token)


def key_of(identity: str, content: bytes, asked_for: Place | None = None, occurrence: int = 0) -> bytes:
    """Return the name of an answer (20 bytes): endpoint and row, and where answers are drawn, for what and when."""
    # processors have instructions for it: an image of 224 pixels takes half the time of blake2b
    digest = hashlib.sha256(usedforsecurity=False)
    own = [] if asked_for is None else [asked_for.name, str(asked_for.chunk), str(occurrence)]
    for part in (identity, *own):
        written = part.encode()
        digest.update(len(written).to_bytes(8, "big") + written)
    # a row by chance equal to such a text must not be taken for one
    digest.update(b"row" if asked_for is None else b"drawn")
    digest.update(content)
    return digest.digest()[:20]
