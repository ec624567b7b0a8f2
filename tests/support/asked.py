"""A client that asks nobody: it answers with a function, and counts what it was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from assay.models.remote.client import Reply, Rows
from assay.spending import Limits


def scores_of(rows: Rows) -> Rows:
    """Return two scores for each row: its sum, and that of its first values taken away."""
    flat = rows.reshape(len(rows), -1)
    return np.stack([flat.sum(1), flat.sum(1) - 2 * flat[:, :3].sum(1)], 1).astype(np.float32)


class FakeClient:
    """Answers `answer(rows)`. `trouble(number, rows)` is called before, with the number of the request from 0.

    `sent` are all rows that arrived, `sizes` the rows of each request, `most_at_once` the most under way together.
    """

    def __init__(
        self,
        answer: Callable[[Rows], Rows] = scores_of,
        trouble: Callable[[int, Rows], Any] = lambda number, rows: None,
        identity: str = "fake",
        slow: float = 0.0,
        **limits: Any,
    ) -> None:
        self.identity, self.host, self.loopback = identity, "fake:80", True
        self.limits = Limits(**limits)
        self.classes: int | None = None
        self.labels = False
        self.answer, self.trouble, self.slow = answer, trouble, slow
        self.sent: list[bytes] = []
        self.sizes: list[int] = []
        self.most_at_once = self._now = 0
        self._lock = threading.Lock()

    def ask(self, rows: Rows) -> Reply:
        with self._lock:
            number = len(self.sizes)
            self.sizes.append(len(rows))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.slow:
                # later requests are answered first
                time.sleep(self.slow * (1 + (number * 7) % 3))
            given = self.trouble(number, rows)
            with self._lock:
                self.sent += [row.tobytes() for row in rows]
            return given if isinstance(given, Reply) else Reply(self.answer(rows))
        finally:
            with self._lock:
                self._now -= 1

    def content(self, row: Rows) -> bytes:
        return row.tobytes()
