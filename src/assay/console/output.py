"""Where words go: data to standard output, everything about the work to standard error."""

from __future__ import annotations

import contextlib
import contextvars
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from assay.console.exit_codes import Exit
from assay.display import Display, chosen, console, log, say

if TYPE_CHECKING:
    from rich.console import Console

DisplayOption = Annotated[
    Display | None,
    typer.Option(help="Live bars, plain lines or nothing. Default: full in a terminal, plain elsewhere and in CI."),
]


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
    return console(_data.get() or sys.stdout)


@contextlib.contextmanager
def stoppable(command: str = "", kept: str = "What is finished is kept") -> Iterator[None]:
    """End with exit code 130 at Ctrl-C, saying what is kept; `command` continues, and without one nothing is kept."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"Stopped. {kept}; the same command continues:\n  {command}" if command else "Stopped; nothing was kept.")
        raise typer.Exit(Exit.STOPPED) from None


def write(text: str) -> None:
    """Write data to standard output as it is."""
    (_data.get() or sys.stdout).write(text if text.endswith("\n") else f"{text}\n")


def spoken_command(arguments: Sequence[str]) -> str:
    """Return a command line as the user would type it."""
    return shlex.join(["assay", *arguments])


__all__ = ["Display", "chosen", "log", "say"]  # handed on
