"""The exceptions of the package: each message states the value, what was expected, and the fix."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches


class AssayError(Exception):
    """Anything Assay reports to its user as an error.

    `exit_code` is what the command line returns for it.
    """

    exit_code = 2


class BadInput(AssayError, ValueError):
    """A value given by the user that cannot be used as it is."""


class ModelError(AssayError, RuntimeError):
    """A model that does not behave like an image classifier (its output is no `[N, K]` tensor of numbers)."""


class AssayWarning(UserWarning):
    """What may make a number wrong, or say less than it seems to."""


def warn_caller(text: str) -> None:
    """Warn (`AssayWarning`) at the line outside of Assay that this comes from."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "assay":
        level, frame = level + 1, frame.f_back
    warnings.warn(text, AssayWarning, stacklevel=level)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the choice nearest to `name`, or "" where none is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    # of a member of an enumeration the word
    return f" Did you mean {str(by_lower[near[0]])!r}?" if near else ""
