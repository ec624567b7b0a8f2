"""How a session shows itself at the command line, and how a command ends."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from assay.console.exit_codes import Exit
from assay.console.output import Display, say
from assay.console.shares import what_is_left
from assay.console.verdict_text import cost_of
from assay.display import Watch, progress
from assay.wording import plural

if TYPE_CHECKING:
    from assay.console.study_from_flags import StudyRequest
    from assay.evaluation.execution.options import Options
    from assay.evaluation.loader import Loader
    from assay.evaluation.run import Run
    from assay.session import AuditSettings, Finished, Tracker


@dataclasses.dataclass(frozen=True)
class Terminal:
    """Tells what a session does on standard error."""

    display: Display

    def say(self, text: str) -> None:
        """Say what is being done, where anything is shown."""
        if self.display is not Display.NONE:
            say(text)

    def note(self, text: str) -> None:
        """Say what is worth knowing about the run."""
        say(text, style="yellow")

    def warn(self, text: str) -> None:
        """Say what may make numbers wrong."""
        say(f"Warning: {text}", style="yellow")

    def watch(self, what: str) -> contextlib.AbstractContextManager[Watch]:
        """Show how far the work is."""
        return progress(what, self.display)


def run_session(
    asked: StudyRequest,
    options: Options,
    display: Display,
    *,
    doctor: bool = True,
    audit: AuditSettings | None = None,
    tell_cost: bool = True,
    loader: Loader | None = None,
    track: str | None = None,
) -> Finished:  # shape: what commands choose
    """Run what a command line asks for, and say what the audit cost; `track` names a tracker of experiments.

    A share that is not the last ends the command: the run is not finished, and its numbers are not to be read.
    """
    from assay.session import Session

    terminal = Terminal(display)
    how = {
        "doctor": doctor,
        "audit": audit,
        "chosen": asked.chosen,
        "loader": loader,
        "tracker": _tracker(track, terminal),
    }
    session = Session(asked.study, asked.directory, options, **how)  # type: ignore[arg-type]  # by name
    finished = session.run(terminal)
    if finished.share is not None:
        for line in what_is_left(finished):
            say(line)
        errors = any(one.errors for one in finished.shares if one.share == finished.share)
        raise typer.Exit(Exit.SOME_ERRORS if errors else Exit.DONE)
    if finished.new_verdicts and tell_cost:
        say(cost_of(finished.new_verdicts))
    return finished


def _tracker(name: str | None, terminal: Terminal) -> Tracker | None:
    if name is None:
        return None
    from assay.exports.live import tracker

    return tracker(name, terminal.warn)


def closing_words(finished: Finished, command: str) -> Iterator[str]:
    """Yield where everything is, and what to type next."""
    from assay.evaluation.records.store import CERTIFICATES, RESULTS

    run = finished.run
    kinds = {RESULTS: run.store.count(run.cells), CERTIFICATES: run.store.count(run.certificate_cells)}
    for folder in [name for name, count in kinds.items() if count] or [RESULTS]:
        yield f"Records   {run.path}/{folder}  ({plural(kinds[folder], 'row')}; assay show {run.path})"
    yield f"Page      assay report {run.path}"
    yield f"Again     {command}" + ("  (nothing was left to do)" if finished.was_done else "")


def tell_gaps(run: Run) -> None:
    """Say what a run lacks: its numbers are then of fewer samples than were planned."""
    gaps = run.gaps()
    if gaps:
        more = f", and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        told = "; ".join(gaps[:3])
        say(
            f"Warning: {told}{more}. The numbers leave these samples out; `assay run {run.path}` makes them.",
            style="yellow",
        )


def errors_of(run: Run) -> int:
    """Return how many samples have an error instead of a result, counted once per cell."""
    return sum({result.cell: result.errors for result in (*run.results(), *run.unattacked())}.values())


def exit_code(run: Run) -> Exit:
    """Return what the shell gets for a finished run."""
    return Exit.SOME_ERRORS if errors_of(run) else Exit.DONE
