"""Progress with the remaining time: live bars where someone watches, a line now and then where not.

Everything here goes to standard error; in a notebook, below the cell.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from assay.wording import rough_duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_LOOKS = 0.2
_WIDTH_WITHOUT_TERMINAL = 120


class Display(enum.StrEnum):
    """How much is shown while work goes on."""

    FULL = "full"
    PLAIN = "plain"
    NONE = "none"


def chosen(display: Display | None) -> Display:
    """Return how a command shows progress: live bars only where standard error is a terminal that a person watches."""
    if display in (None, Display.FULL):
        return Display.FULL if _watched() else Display.PLAIN
    return display


def chosen_in_python(display: str) -> Display:
    """Return how a call from Python shows progress: with "auto", only in a notebook or a terminal.

    Raises `ValueError` for a word that is no display.
    """
    if display != "auto":
        return Display(display)
    return Display.FULL if kernel() is not None or _watched() else Display.NONE


def _watched() -> bool:
    return sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


def kernel() -> Any:
    """Return the notebook's kernel that runs this process; None elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None)


def log() -> Console:
    """Return the console of standard error: for everything but the data that were asked for."""
    return console(sys.stderr)


def console(file: TextIO) -> Console:
    """Return a console that writes plain text, as wide as the terminal."""
    from rich.console import Console

    width = None if file.isatty() or "COLUMNS" in os.environ else _WIDTH_WITHOUT_TERMINAL
    return Console(file=file, width=width, highlight=False, emoji=False)


def say(text: str, style: str = "") -> None:
    """Tell the user something about the work, on standard error, as plain text."""
    log().print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class Watch(Protocol):
    """Whoever shows how far the work is."""

    def update(self, share: float, note: str, left: float | None) -> None:
        """Show the finished `share` (0 to 1), a few words, and the seconds `left`, where they are known."""

    def tell(self, text: str) -> None:
        """Show a line that stays."""


@contextlib.contextmanager
def progress(what: str, display: Display) -> Iterator[Watch]:
    """Give something to report progress to; `what` names the work."""
    if display is Display.FULL and kernel() is not None:
        yield Cell(what)
    elif display is Display.FULL:
        with _live(what) as watch:
            yield watch
    elif display is Display.PLAIN:
        yield Lines(what)
    else:
        yield Silence()


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
            say(_line(self.what, share, note, left))

    def tell(self, text: str) -> None:
        """Say a line."""
        say(text)


@dataclasses.dataclass
class _Bar:
    """A bar that is there from the first news of the work on: work that has nothing to do shows none."""

    shown: Progress
    task: TaskID
    started: bool = False

    def update(self, share: float, note: str, left: float | None) -> None:
        if not self.started:
            self.shown.start()
            self.started = True
        self.shown.update(self.task, completed=share, note=note, left=_left(left))

    def tell(self, text: str) -> None:
        self.shown.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclasses.dataclass
class Cell:
    """Progress as one line below the cell of a notebook, and the lines that stay above it."""

    what: str
    clock: Callable[[], float] = time.monotonic
    _shown: Any = None
    _looked: float = 0.0
    _lines: list[str] = dataclasses.field(default_factory=list)
    _now: str = ""

    def update(self, share: float, note: str, left: float | None) -> None:
        """Show how far the work is, a few times a second at most."""
        now = self.clock()
        self._now = _line(self.what, share, note, left)
        if self._shown is None or share >= 1 or now - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self._looked = now
            self._show()

    def tell(self, text: str) -> None:
        """Show a line that stays."""
        self._lines.append(text)
        self._show()

    def _show(self) -> None:
        display = importlib.import_module("IPython.display").display
        text = {"text/plain": "\n".join([*self._lines, self._now])}
        if self._shown is None:
            self._shown = display(text, raw=True, display_id=True)
        else:
            self._shown.update(text, raw=True)


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
    bar = _Bar(shown, shown.add_task(escape(what), total=1, note="", left=""))
    try:
        yield bar
    finally:
        if bar.started:
            shown.stop()


def _line(what: str, share: float, note: str, left: float | None) -> str:
    return "  ".join(part for part in (what, f"{100 * share:3.0f} %", note, _left(left)) if part)


def _left(seconds: float | None) -> str:
    return "" if seconds is None or seconds <= 0 else f"{rough_duration(seconds)} left"
