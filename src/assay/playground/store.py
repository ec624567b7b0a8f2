"""What visitors have brought and made: images, patches and results, in memory alone, bounded and forgotten."""

from __future__ import annotations

import collections
import dataclasses
import secrets
import time
from collections.abc import Callable
from typing import Generic, TypeVar

MOST_EACH = 50
"""Things of one kind that a visitor may have: of more, the oldest are dropped."""
MOST_BYTES = 32 * 2**20
"""What all of one kind may take together: of more, who has most loses its oldest."""
LIFETIME = 3600.0
"""Seconds after which a thing is dropped."""

Held = TypeVar("Held")


@dataclasses.dataclass(frozen=True)
class _Kept(Generic[Held]):
    visitor: str
    value: Held
    size: int
    until: float


class Store(Generic[Held]):
    """Things by names that nobody can guess."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept: collections.OrderedDict[str, _Kept[Held]] = collections.OrderedDict()
        self._clock = clock

    def put(self, visitor: str, value: Held, size: int, name: str = "") -> str:
        """Keep a thing of `size` bytes; return its name. What is too much is dropped, the oldest first."""
        name = name or secrets.token_urlsafe(12)
        self._kept[name] = _Kept(visitor, value, size, self._clock() + LIFETIME)
        own = [key for key, one in self._kept.items() if one.visitor == visitor]
        for key in own[:-MOST_EACH]:
            del self._kept[key]
        while self._total() > MOST_BYTES and len(self._kept) > 1:
            del self._kept[self._oldest_of_the_largest(name)]
        return name

    def _total(self) -> int:
        return sum(one.size for one in self._kept.values())

    def _oldest_of_the_largest(self, spared: str) -> str:
        sizes: collections.Counter[str] = collections.Counter()
        for key, one in self._kept.items():
            sizes[one.visitor] += one.size if key != spared else 0
        largest = sizes.most_common(1)[0][0]
        return next(key for key, one in self._kept.items() if one.visitor == largest and key != spared)

    def get(self, name: str) -> Held | None:
        """Return a thing; None for one that is not there, or no longer."""
        now = self._clock()
        for key in [key for key, one in self._kept.items() if one.until < now]:
            del self._kept[key]
        one = self._kept.get(name)
        return None if one is None else one.value
