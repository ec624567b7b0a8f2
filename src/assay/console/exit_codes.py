"""What every command returns to the shell (scripts rely on these numbers), and errors in words."""

from __future__ import annotations

import enum
import sys
import tempfile
import traceback
from pathlib import Path

from assay.core.errors import AssayError


class Exit(enum.IntEnum):
    """The exit codes."""

    DONE = 0
    FAILED = 1
    """A run that could not go on, or more errors than --fail-on-error allows."""
    BAD_INPUT = 2
    """A value that cannot be used; nothing was run."""
    SOME_ERRORS = 3
    """A finished run in which some samples have an error instead of a result."""
    MISSED = 4
    """A gate that a run misses."""
    UNSURE = 5
    """A gate of which the run cannot tell whether it is met."""
    INCOMPLETE = 6
    """Gathered, and records are missing."""
    STOPPED = 130
    """Ctrl-C."""


EPILOG = (
    "Exit codes: 0 done; 1 the run failed, or has more errors than --fail-on-error allows; 2 bad input, nothing was "
    "run; 3 finished, with errors in some samples; 4 a gate is missed; 5 a gate cannot tell; 6 records are missing "
    "(gather); 130 stopped by Ctrl-C. "
    "Every option can also be an environment variable: ASSAY_RUN_SEED=3 is run --seed 3."
)


def in_words(error: BaseException) -> tuple[str, int] | None:
    """Return what an error says to its user, and the exit code; None for one that is no failure of a command.

    The model and the user's own code are blamed before the disk and before Assay: an OSError in a forward is the
    model's.
    """
    if isinstance(error, AssayError):
        return str(error), error.exit_code
    if isinstance(error, SystemExit) and not _inside_a_command(error):
        return None
    # without torch no model was loaded, and no code of the user has run
    if sys.modules.get("torch") is not None:
        from assay.models.failures import blamed

        # Python itself raises another error in the place of a StopIteration, and keeps it as the cause
        for one in (error, error.__cause__):
            if one is not None and (told := blamed(one)) is not None:
                return str(told), told.exit_code
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'} could not be used: {error.strerror or error}.", Exit.FAILED
    if isinstance(error, MemoryError):
        return "Memory ran out. Give a smaller --batch, or fewer samples (--limit).", Exit.FAILED
    if isinstance(error, SystemExit):
        return f"Code that was loaded ended the command by sys.exit({error.code!r}). Take that out.", Exit.FAILED
    return _bug(error), Exit.FAILED


def _inside_a_command(error: BaseException) -> bool:
    # the parser leaves by SystemExit too, but never from inside a command
    here = Path(__file__).parents[1]
    files = [Path(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(file.is_relative_to(here) for file in files[1:])


def _bug(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    first = str(error).strip().partition("\n")[0]
    told = f"{type(error).__name__}: {first}" if first else type(error).__name__
    with tempfile.NamedTemporaryFile("w", prefix="assay-error-", suffix=".log", delete=False, encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    return (
        f"Assay itself failed: {told} ({Path(place.filename).name}:{place.lineno}). That should not happen "
        f"whatever it is given: please report it, with {file.name} (or what the same command says with --debug)."
    )
