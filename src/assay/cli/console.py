"""Where words go: data to standard output, everything about the work to standard error."""

from __future__ import annotations

import contextlib
import contextvars
import enum
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 120


class Display(enum.StrEnum):
    """How much is shown while a command works."""

    FULL = "full"
    PLAIN = "plain"
    NONE = "none"


DisplayOption = Annotated[
    Display | None,
    typer.Option(help="Live bars, plain lines or nothing. Default: full in a terminal, plain elsewhere and in CI."),
]


def chosen(display: Display | None) -> Display:
    """Return how to show progress: live bars only where standard error is a terminal that a person watches."""
    watched = sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
    if display in (None, Display.FULL):
        return Display.FULL if watched else Display.PLAIN
    return display


_data: contextvars.ContextVar[TextIO | None] = contextvars.ContextVar("data", default=None)


@contextlib.contextmanager
def data_alone() -> Iterator[None]:
    """Keep standard output for data: what a model's or a library's code prints meanwhile goes to standard error."""
    before = _data.set(_data.get() or sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _data.reset(before)


def out() -> Console:
    """Return the console for data: what a command was asked for."""
    return _console(_data.get() or sys.stdout)


def log() -> Console:
    """Return the console for everything else."""
    return _console(sys.stderr)


def say(text: str, style: str = "") -> None:
    """Tell the user something about the work, on standard error, as plain text."""
    log().print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def write(text: str) -> None:
    """Write data to standard output as it is."""
    (_data.get() or sys.stdout).write(text if text.endswith("\n") else f"{text}\n")


def spoken_command(arguments: Sequence[str]) -> str:
    """Return a command line as the user would type it."""
    return shlex.join(["assay", *arguments])


def _console(file: TextIO) -> Console:
    from rich.console import Console

    width = None if file.isatty() or "COLUMNS" in os.environ else _WIDTH_WITHOUT_TERMINAL
    return Console(file=file, width=width, highlight=False, emoji=False)
