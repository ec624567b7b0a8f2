"""Progress with the remaining time: live bars where someone watches, a line now and then where not."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from assay.cli.console import Display, log, say
from assay.wording import rough_duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_LINES = 10.0


class Watch(Protocol):
    """Whoever shows how far the work is."""

    def update(self, share: float, note: str, left: float | None) -> None:
        """Show the finished `share` (0 to 1), a few words, and the seconds `left`, where they are known."""

    def tell(self, text: str) -> None:
        """Show a line that stays."""


@contextlib.contextmanager
def progress(what: str, display: Display) -> Iterator[Watch]:
    """Give something to report progress to; `what` names the work."""
    if display is Display.FULL:
        with _live(what) as watch:
            yield watch
    else:
        yield Lines(what) if display is Display.PLAIN else Silence()


@dataclasses.dataclass
class Pace:
    """Estimates the time left from the time since the first call; what was done before it says nothing."""

    clock: Callable[[], float] = time.monotonic
    _start: tuple[float, float] | None = None

    def left(self, share: float) -> float | None:
        """Return the seconds left when `share` (0 to 1) is done, or None where nothing is known yet."""
        now = self.clock()
        if self._start is None:
            self._start = (now, share)
        began, first = self._start
        return None if share <= first else (now - began) * (1 - share) / (share - first)


class Silence:
    """Shows nothing."""

    def update(self, share: float, note: str, left: float | None) -> None:
        """Show nothing."""

    def tell(self, text: str) -> None:
        """Show nothing."""


@dataclasses.dataclass
class Lines:
    """Progress as plain lines: the first, the last, and one every ten seconds between them."""

    what: str
    clock: Callable[[], float] = time.monotonic
    _said: float = -_SECONDS_BETWEEN_LINES
    _last: float | None = None

    def update(self, share: float, note: str, left: float | None) -> None:
        """Say how far the work is, if it is time to."""
        now = self.clock()
        ended = share >= 1 and self._last != share
        self._last = share
        if ended or now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            say("  ".join(part for part in (self.what, f"{100 * share:3.0f} %", note, _left(left)) if part))

    def tell(self, text: str) -> None:
        """Say a line."""
        say(text)


@dataclasses.dataclass(frozen=True)
class _Bar:
    shown: Progress
    task: TaskID

    def update(self, share: float, note: str, left: float | None) -> None:
        self.shown.update(self.task, completed=share, note=note, left=_left(left))

    def tell(self, text: str) -> None:
        self.shown.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _live(what: str) -> Iterator[Watch]:
    from rich import progress as bars
    from rich.markup import escape

    shown = bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TextColumn("{task.fields[left]}"),
        bars.TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=log(),
        # standard output is for data, and goes its own way
        redirect_stdout=False,
    )
    with shown:
        yield _Bar(shown, shown.add_task(escape(what), total=1, note="", left=""))


def _left(seconds: float | None) -> str:
    return "" if seconds is None or seconds <= 0 else f"{rough_duration(seconds)} left"
