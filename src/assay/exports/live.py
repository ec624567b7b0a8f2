"""Trackers that follow a run while it goes on, and cannot end it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import BadInput, did_you_mean
from assay.exports.extras import in_line
from assay.exports.table import TRACKERS

if TYPE_CHECKING:
    from assay.evaluation.execution.progress import Progress
    from assay.evaluation.run import Run
    from assay.session import Tracker


class Guarded:
    """A tracker whose failures are told once, by `warn`; after the first it hears nothing more of the run."""

    def __init__(self, name: str, inner: Tracker, warn: Callable[[str], None]) -> None:
        """Guard the tracker called `name`."""
        self._name, self._inner, self._warn = name, inner, warn
        self._failed = False

    def hear(self, folder: Path, now: Progress) -> None:
        """Hand on how far the run is."""
        self._try(lambda: self._inner.hear(folder, now))

    def end(self, run: Run) -> None:
        """Hand on that a run came to its end."""
        self._try(lambda: self._inner.end(run))

    def fail(self, stopped: bool) -> None:
        """Hand on that it did not."""
        self._try(lambda: self._inner.fail(stopped))

    def _try(self, tell: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            tell()
        except Exception as error:  # whatever a library or a server may raise: the run is what matters
            self._failed = True
            self._warn(
                f"{self._name} could not be told of this run ({in_line(error)}). The run goes on "
                f"without it; `assay export DIR --to {self._name}` puts the numbers there later."
            )


def tracker(name: str | None, warn: Callable[[str], None]) -> Tracker | None:
    """Return the tracker `name`, guarded; None where none is wanted.

    Raises `BadInput` for an unknown one, and for one whose library is not installed.
    """
    if name is None:
        return None
    make = TRACKERS.get(name)
    if make is None:
        near = did_you_mean(name, TRACKERS)
        raise BadInput(f"track is {name!r}.{near} There is: {', '.join(TRACKERS)}.")
    return Guarded(name, make(), warn)
