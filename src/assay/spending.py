"""What endpoints may be asked, and what a run directory's ledger says they were asked so far."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from pathlib import Path

from assay.core.errors import AssayError
from assay.files import DiskError

FOLDER, FILE = "answers", "answers.sqlite"

WAIT = 60.0
"""So many seconds one waits for another process that writes."""

SPENT = "SELECT endpoint, place, asked, billed, requests, retries FROM spent"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an endpoint may be asked. None of it changes an answer; what cannot be had within it ends the run.

    `queries` are rows that the endpoint answers (those in the cache are free), `price` is that of one row in `currency`
    and `budget` the most that all may cost. `per_second` are requests, `parallel` those under way at once, `batch` the
    most rows of one request, `timeout` the seconds that one may take, `tries` how often one is sent at most.
    """

    queries: int | None = None
    price: float = 0.0
    budget: float | None = None
    currency: str = ""
    per_second: float | None = None
    parallel: int = 1
    batch: int = 16
    timeout: float = 30.0
    tries: int = 5


def allowed(limits: Limits) -> int | None:
    """Return how many rows may be billed in all, by their number and by what they cost; None where nothing is said."""
    most = [] if limits.queries is None else [limits.queries]
    if limits.budget is not None and limits.price > 0:
        # a price such as 0.1 is no number of binary digits: 3 / 0.1 is a little below 30
        most.append(int(limits.budget / limits.price * (1 + 1e-12)))
    return min(most, default=None)


@dataclasses.dataclass(frozen=True)
class Spent:
    """What was asked of an endpoint: rows `asked`, those of them `billed`, requests, and retries among these.

    `billed` rows were sent and answered, or may have been: a request that a kill or a broken connection cut off counts.
    The others were known before.
    """

    asked: int = 0
    billed: int = 0
    requests: int = 0
    retries: int = 0

    def plus(self, other: Spent) -> Spent:
        """Return both together."""
        return Spent(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


def spent_in(folder: Path) -> dict[tuple[str, str], Spent]:
    """Return what a run directory's endpoints were asked, by endpoint and what for; nothing where there are none.

    Raises `DiskError` and `LedgerDamaged` for a file that cannot be read through.
    """
    path = folder / FOLDER / FILE
    if not path.is_file():
        return {}
    try:
        ledger = read_only(path)
    except (sqlite3.Error, OSError):
        return {}
    with contextlib.closing(ledger):
        try:
            return {(endpoint, name): Spent(*counts) for endpoint, name, *counts in ledger.execute(SPENT)}
        except (sqlite3.Error, OSError) as error:
            raise told(error, path) from error


def read_only(path: Path) -> sqlite3.Connection:
    """Open a ledger to be read; raises `sqlite3.Error` at once where it cannot be."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT, check_same_thread=False)
    try:
        db.execute("SELECT 1 FROM answers LIMIT 1")
    except BaseException:
        db.close()
        raise
    return db


def told(error: Exception, path: Path | None) -> AssayError:
    """Return an error of the ledger in words."""
    where = path or "the memory"
    text = str(error)
    if isinstance(error, sqlite3.OperationalError | OSError):
        full = "full" in text or getattr(error, "errno", None) == 28
        why = "The disk is full. Free some space" if full else f"{text[:1].upper()}{text[1:]}. Put that right"
        return DiskError(
            f"{where}, where the endpoint's answers are kept, could not be used: {why}; what is finished is kept, and "
            "the same command continues."
        )
    if isinstance(error, sqlite3.DatabaseError):
        return LedgerDamaged(
            f"{where}, where the endpoint's answers are kept, is damaged ({text}). The same command puts it aside and "
            "continues."
        )
    return AssayError(f"{where}, where the endpoint's answers are kept, is closed.")


class LedgerDamaged(AssayError):
    """A file of answers that cannot be read."""

    exit_code = 1
