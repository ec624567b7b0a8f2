"""What clients of all protocols share: whom they ask, what is remembered of the answers, and static batches."""

from __future__ import annotations

import abc
import itertools
import json
import threading
from collections.abc import Mapping
from typing import Any

from assay.core.errors import BadInput, ModelError
from assay.models.remote.address import Address
from assay.models.remote.answers import by_row, class_numbers, parsed
from assay.models.remote.client import EndpointError, Reply, Rows
from assay.models.remote.transport import Transport
from assay.spending import Limits


class Asking(abc.ABC):
    """A client's transport, what its answers depend on, and what is known of them.

    `facts` go into the identity, `classes` is their number where it is known, and `labels` says that answers are class
    numbers.
    """

    def __init__(
        self, transport: Transport, facts: Mapping[str, Any], classes: int | None = None, labels: bool = False
    ) -> None:
        self.transport = transport
        self._classes = classes
        self._labels = labels
        self._facts = facts
        self._served = ""
        self._open()

    def __getstate__(self) -> dict[str, Any]:
        # a lock belongs to one process
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_count")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._count = itertools.count(1)

    @abc.abstractmethod
    def ask(self, rows: Rows) -> Reply:
        """Ask about rows `[N, C, H, W]`, see `Client`."""

    @abc.abstractmethod
    def content(self, row: Rows) -> bytes:
        """Return what one row is on the wire."""

    @property
    @abc.abstractmethod
    def levels(self) -> bool:
        """Return whether images go as grey levels, 0 to 255."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of how images get there."""
        return ()

    @property
    def classes(self) -> int | None:
        """Return the number of classes, from the first answer on at the latest."""
        return self._classes

    @property
    def labels(self) -> bool:
        """Whether answers are class numbers."""
        return self._labels

    @property
    def identity(self) -> str:
        """Return what answers depend on, as one line without a secret."""
        literal = {name.lower(): text for name, text in self.transport.headers.template.items() if "${" not in text}
        return json.dumps({**self._facts, **({"headers": literal} if literal else {})}, sort_keys=True)

    @property
    def host(self) -> str:
        """Return the host and port that is asked."""
        return self.transport.address.host

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine."""
        return self.transport.address.loopback

    @property
    def limits(self) -> Limits:
        """Return what the endpoint may be asked."""
        return self.transport.limits

    @property
    def shown(self) -> str:
        """Return what messages call the endpoint: host and path."""
        return self.transport.address.shown

    def checked(self, scores: Rows, n: int) -> Rows:
        """Return an answer's scores `[n, K]`, or class numbers `[n, 1]` of labels, the number of classes kept to."""
        if self._labels:
            return class_numbers(scores, n, self._classes or 0, self.shown)
        with self._lock:
            rows = by_row(scores, n, self._classes, self.shown)
            self._classes = rows.shape[1]
        return rows

    def fits(self, rows: Rows, shape: tuple[int | None, int | None, int | None]) -> None:
        """Raise `ModelError` for rows of other sides than the server states: some fail at them in ways of their own."""
        if any(side not in (None, given) for side, given in zip(shape, rows.shape[1:], strict=True)):
            wanted = ", ".join("any" if side is None else str(side) for side in shape)
            raise ModelError(
                f"The endpoint {self.shown} takes images [{wanted}] (channels, height, width) and was to be asked "
                f"about {list(rows.shape[1:])}. Resize them: size={shape[1]}x{shape[2]}."
            )

    def same_version(self, version: str) -> None:
        """Raise `EndpointError` where another version answers than the one that answered first."""
        with self._lock:
            self._served = self._served or version
        if version and version != self._served:
            raise EndpointError(
                f"The endpoint {self.shown} answers with version {version} now, and did with version {self._served} "
                "before: its model was changed under this run. Name the version to ask: version=…"
            )


def told_of_model(transport: Transport, where: Address, params: Mapping[str, str]) -> Any:
    """Return what a server says of the model at an address, as JSON. Raises `BadInput` where it has none."""
    try:
        answered = transport.send("GET", where, params=params)
    except EndpointError as error:
        if error.status in (400, 404):
            raise BadInput(f"There is no model at {where.shown}: {error}") from None
        raise
    return parsed(answered.body, answered, where.shown)
