"""What an endpoint's client is, and what its user allows it."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

Rows = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an endpoint may be asked. None of it changes an answer; what cannot be had within it ends the run.

    `queries` are rows that the endpoint answers (those in the cache are free), `price` is that of one row in `currency`
    and `budget` the most that all may cost. `per_second` are requests, `parallel` those under way at once, `batch` the
    most rows of one request, `timeout` the seconds that one may take, `tries` how often one is sent at most.
    """

    queries: int | None = None
    price: float = 0.0
    budget: float | None = None
    currency: str = ""
    per_second: float | None = None
    parallel: int = 1
    batch: int = 16
    timeout: float = 30.0
    tries: int = 5


@dataclasses.dataclass(frozen=True)
class Reply:
    """The scores float32 `[N, K]` of one request's rows, and how often it was sent again."""

    scores: Rows
    retries: int = 0


class Client(Protocol):
    """Asks one endpoint. It may be called from several threads at once.

    `identity` names whatever answers depend on (address, model, version, form of the request): it goes into digests and
    into the keys of the cache, and holds no secret. `host` is what the endpoint's user is told, without secrets.
    """

    identity: str
    host: str
    loopback: bool
    limits: Limits

    def ask(self, rows: Rows) -> Reply:
        """Send one request for float32 rows `[N, C, H, W]` in [0, 1], `N` at most `limits.batch`, and wait for it.

        Raises `EndpointError` when all tries failed, and `ModelError` for an answer that is none.
        """

    def content(self, row: Rows) -> bytes:
        """Return what one row `[C, H, W]` is on the wire: two rows with equal content get equal answers."""
