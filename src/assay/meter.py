"""How long work still takes, when its parts differ in cost and some end early."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

WHOLE = "whole"
"""The part of work that has no parts."""


class Meter:
    """Estimates the time left from what each part of the work is expected to take, corrected by what it took.

    Expected amounts are seconds, or any unit of time where no speed is known. Work of an earlier run counts in the
    share, and says nothing about the pace. Work without parts is one part, `WHOLE`, which `reach` makes known.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._expected: dict[Hashable, float] = {}
        self._left: dict[Hashable, float] = {}
        self._took: dict[Hashable, float] = {}
        self._done: dict[Hashable, float] = {}
        self._reached: set[Hashable] = set()
        self._clock = clock
        self._then = clock()

    def expect(self, part: Hashable, whole: float, left: float | None = None) -> None:
        """Expect a part to take so long as a whole, of which `left` is to be done (default: all)."""
        self._expected[part] = whole
        self._left[part] = whole if left is None else left

    def add(self, part: Hashable, amount: float, took: float | None = None) -> None:
        """Note that so much (in expected seconds) of a part is done, in the time since the last note.

        `took` stands for that time at the first note of all: what came before it was starting up.
        """
        now = self._clock()
        spent = now - self._then if took is None or self._took else took
        left = self._left[part] - amount
        # rounding must not leave a rest
        self._left[part] = left if left > 1e-9 * self._expected[part] else 0.0
        self._took[part] = self._took.get(part, 0.0) + spent
        self._done[part] = self._done.get(part, 0.0) + amount
        self._then = now

    def finish(self, part: Hashable) -> None:
        """Note that nothing is left of a part, whatever was expected of it."""
        self._left[part] = 0.0

    def reach(self, share: float, part: Hashable = WHOLE) -> float | None:
        """Note that a part is done up to `share` (0 to 1), and return the seconds left of all that is expected.

        The first call for a part says where it begins.
        """
        if part not in self._expected:
            self.expect(part, 1.0)
        left = self._expected[part] * (1 - share)
        if part not in self._reached:
            self._reached.add(part)
            self._left[part], self._then = left, self._clock()
        elif left < self._left[part]:
            self.add(part, self._left[part] - left)
        return self.seconds_left

    @property
    def share(self) -> float:
        """The finished part of the expected work, earlier runs included: 0 to 1."""
        return self.share_without()

    def share_without(self, *parts: Hashable) -> float:
        """Return the finished part of the expected work but some parts: 0 to 1."""
        counted = [part for part in self._expected if part not in parts]
        whole = sum(self._expected[part] for part in counted)
        # rounding must not show as -0 %
        return max(0.0, 1 - sum(self._left[part] for part in counted) / whole) if whole else 1.0

    @property
    def seconds_left(self) -> float | None:
        """The seconds left, or None before anything was observed."""
        done = sum(self._done.values())
        if not done:
            return None
        correction = sum(self._took.values()) / done
        return sum(left * self._pace(part, correction) for part, left in self._left.items())

    def _pace(self, part: Hashable, correction: float) -> float:
        done = self._done.get(part)
        return self._took[part] / done if done else correction
