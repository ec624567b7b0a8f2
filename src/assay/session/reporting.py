"""Who hears what a session does: a reporter for a person, a tracker for another program."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

from assay.display import Silence, Watch
from assay.evaluation.execution.progress import Progress
from assay.evaluation.run import Run


class Reporter(Protocol):
    """Whoever tells a person what a session does."""

    def say(self, text: str) -> None:
        """Say what is being done."""

    def note(self, text: str) -> None:
        """Say what is worth knowing about the run."""

    def warn(self, text: str) -> None:
        """Say what may make numbers wrong."""

    def watch(self, what: str) -> contextlib.AbstractContextManager[Watch]:
        """Return what shows how far the work `what` is."""


class Tracker(Protocol):
    """Whoever follows a run from outside, such as a tracker of experiments; nothing that it does ends the run."""

    def hear(self, folder: Path, now: Progress) -> None:
        """Hear how far the run in `folder` is."""

    def end(self, run: Run) -> None:
        """Hear that a run came to its end, audit included."""

    def fail(self, stopped: bool) -> None:
        """Hear that it did not: `stopped` by its user, or failed."""


class Unreported:
    """Tells nobody."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""

    def watch(self, what: str) -> contextlib.AbstractContextManager[Watch]:
        """Show nothing."""
        return contextlib.nullcontext(Silence())
