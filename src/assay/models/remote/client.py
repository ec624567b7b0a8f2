"""What an endpoint's client is, and what its user allows it."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from assay.core.errors import AssayError
from assay.spending import Limits

Rows = np.ndarray[Any, Any]


class EndpointError(AssayError):
    """An endpoint that cannot be asked: it is down, refuses, or gave no answer in all tries.

    Of a request that failed, `tries` says how often it was sent, and `doubtful` after how many of those nobody can
    know whether the endpoint answered (and billed) it. `status` is that of the last answer, 0 where there was none.
    """

    exit_code = 1

    def __init__(self, message: str, tries: int = 0, doubtful: int = 0, status: int = 0) -> None:
        super().__init__(message)
        self.tries = tries
        self.doubtful = doubtful
        self.status = status


@dataclasses.dataclass(frozen=True)
class Reply:
    """The answer to one request, and what it took: `retries` after the first try.

    `scores` are float32 `[N, K]`, or class numbers `[N, 1]` where the endpoint gives labels alone. `doubtful` counts
    the tries that broke off after they were sent, so that the endpoint may have billed their rows. `extra` are rows
    that were answered besides those asked for: the first request of a process may look which form the server takes.
    """

    scores: Rows
    retries: int = 0
    doubtful: int = 0
    extra: int = 0


class Client(Protocol):
    """Asks one endpoint. It may be called from several threads at once.

    `identity` names whatever answers depend on (address, model, version, form of the request): it goes into digests and
    into the keys of the cache, and holds no secret. `host` is what the endpoint's user is told, without secrets.
    """

    @property
    def identity(self) -> str:
        """What answers depend on, as one line."""

    @property
    def host(self) -> str:
        """Host and port."""

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine."""

    @property
    def limits(self) -> Limits:
        """What the endpoint may be asked."""

    @property
    def classes(self) -> int | None:
        """The number of classes, None where only an answer will tell."""

    @property
    def labels(self) -> bool:
        """Whether answers are class numbers."""

    def ask(self, rows: Rows) -> Reply:
        """Send one request for float32 rows `[N, C, H, W]` in [0, 1], `N` at most `limits.batch`, and wait for it.

        Raises `EndpointError` when all tries failed, and `ModelError` for an answer that is none.
        """

    def content(self, row: Rows) -> bytes:
        """Return what one row `[C, H, W]` is on the wire: two rows with equal content get equal answers."""
