"""What every command returns to the shell. Scripts rely on these numbers; they do not change."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """The exit codes."""

    DONE = 0
    FAILED = 1
    """A run that could not go on, or more errors than --fail-on-error allows."""
    BAD_INPUT = 2
    """A value that cannot be used; nothing was run."""
    SOME_ERRORS = 3
    """A finished run in which some samples have an error instead of a result."""
    STOPPED = 130
    """Ctrl-C."""


EPILOG = (
    "Exit codes: 0 done; 1 the run failed, or has more errors than --fail-on-error allows; 2 bad input, nothing was "
    "run; 3 finished, with errors in some samples; 130 stopped by Ctrl-C. "
    "Every option can also be an environment variable: ASSAY_RUN_SEED=3 is run --seed 3."
)
