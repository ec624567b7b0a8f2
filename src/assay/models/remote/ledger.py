"""What endpoints answered and what that cost, written before it is used: a killed run finds it again.

One SQLite file in a run directory, which all of its processes share. Answers are kept by what they depend on, the
endpoint's identity and the row as it is sent; what the user allows is taken from here before a request is sent.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import json
import shutil
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from assay.core.errors import AssayError
from assay.models.remote.client import Rows
from assay.models.remote.place import Place
from assay.spending import FILE, FOLDER, SPENT, WAIT, Spent, read_only, told

DAMAGED = "damaged"

CANARIES = 2
"""How many rows of an endpoint are kept whole, to be asked again when a run goes on."""

_AT_ONCE = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    endpoint TEXT, place TEXT, asked INTEGER DEFAULT 0, billed INTEGER DEFAULT 0, requests INTEGER DEFAULT 0,
    retries INTEGER DEFAULT 0, PRIMARY KEY (endpoint, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS canaries (
    endpoint TEXT, number INTEGER, key BLOB, shape TEXT, pixels BLOB, PRIMARY KEY (endpoint, number)
);
"""
_SPEND = """
INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET asked = asked + excluded.asked,
billed = billed + excluded.billed, requests = requests + excluded.requests, retries = retries + excluded.retries
"""


_CURRENT: contextvars.ContextVar[Ledger | None] = contextvars.ContextVar("ledger", default=None)


def current() -> Ledger | None:
    """Return the ledger that is in use, or None where each endpoint keeps its own in memory."""
    return _CURRENT.get()


class QueriesSpent(AssayError):
    """What the user allows of an endpoint is spent; what is finished is kept."""

    exit_code = 1


class Ledger:
    """Answers and counts: in memory at first, in a run directory from `keep_in` on. Several threads may use it.

    `earlier` are the endpoints that have answered there before, and `warnings` say what was put aside.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._path: Path | None = None
        self._db: sqlite3.Connection | None = None
        self._behind: sqlite3.Connection | None = None
        self._asked: Counter[tuple[str, str]] = Counter()
        self._canaries: Counter[str] = Counter()
        self._lock = threading.RLock()
        self.unnamed = Place()
        self.earlier: frozenset[str] = frozenset()

    @classmethod
    def of_run(cls, folder: Path, *, check: bool = True) -> Ledger:
        """Return the ledger of a run directory."""
        ledger = cls()
        ledger.keep_in(folder, check=check)
        return ledger

    @contextlib.contextmanager
    def used(self) -> Iterator[Ledger]:
        """Let all endpoints that are asked meanwhile use this ledger; afterwards it is closed."""
        token = _CURRENT.set(self)
        try:
            yield self
        finally:
            _CURRENT.reset(token)
            self.close()

    def look_behind(self, folder: Path) -> None:
        """Know the answers of a run directory, if there are any, and write nothing there."""
        path = folder / FOLDER / FILE
        with self._lock, contextlib.suppress(sqlite3.Error, OSError):
            self._behind = read_only(path) if path.is_file() else None

    def keep_in(self, folder: Path, source: Path | None = None, *, check: bool = True) -> None:
        """Keep everything in a run directory from now on, and know what the run `source` was answered.

        A damaged file there is put aside, with a line in `warnings`; `check` looks for damage in all of it.
        Raises `DiskError`.
        """
        with self._lock:
            memory, self._db = self._db, None
            behind, self._behind = self._behind, None
            if behind is not None:
                behind.close()
            self._path = folder / FOLDER / FILE
            if check and self._path.is_file():
                self._put_aside_if_damaged(folder)
            if source is not None and (source / FOLDER / FILE).is_file():
                self._take_from(source / FOLDER / FILE)
            self.earlier = self._kept_whole() if check else frozenset()
            if memory is not None:
                self._copy(memory)
                memory.close()

    def close(self) -> None:
        """Write what is counted, and let go of the file."""
        with self._lock:
            # rows counted as asked are lost where they cannot be written: what ended the work is the error to hear
            with contextlib.suppress(AssayError):
                self._flush()
            for one in (self._db, self._behind):
                if one is not None:
                    one.close()
            self._db = self._behind = None

    def open(self) -> None:
        """Make the file now, before several processes would at once. Raises `DiskError`."""
        with self._lock, self._in_words():
            self._opened()

    def __del__(self) -> None:
        for one in (self._db, self._behind):
            if one is not None:
                one.close()

    def known(self, keys: Sequence[bytes]) -> dict[bytes, Rows]:
        """Return the answers (float32 `[K]`) that there are, by key. One whose bytes are damaged is not there."""
        found: dict[bytes, Rows] = {}
        with self._lock, self._in_words():
            there = self._db is not None or (self._path is not None and self._path.is_file())
            for db in (self._opened() if there else None, self._behind):
                for at in range(0, len(keys) if db is not None else 0, _AT_ONCE):
                    some = keys[at : at + _AT_ONCE]
                    marks = ",".join("?" * len(some))
                    assert db is not None, "the range is empty else"
                    for key, answer in db.execute(f"SELECT * FROM answers WHERE key IN ({marks})", some):
                        scores = _unpacked(answer)
                        if scores is not None:
                            found.setdefault(key, scores)
        return found

    def count_asked(self, endpoint: str, place: str, rows: int) -> None:
        """Note that so many rows were asked, known or not; written with what comes next."""
        with self._lock:
            self._asked[endpoint, place] += rows

    def reserve(self, endpoint: str, place: str, rows: int, most: int | None) -> int:
        """Book up to `rows` as billed, of `most` in all, before they are sent; return how many may be."""
        with self._writing() as db:
            granted = rows
            if most is not None:
                granted = max(0, min(rows, most - _billed(db, endpoint)))
            if granted:
                db.execute(_SPEND, (endpoint, place, 0, granted, 0, 0))
        return granted

    def settle(self, endpoint: str, place: str, spent: Spent) -> None:
        """Book what a request took beyond what was reserved for it; less, where nothing was billed."""
        with self._writing() as db:
            db.execute(_SPEND, (endpoint, place, *dataclasses.astuple(spent)))

    def write(self, endpoint: str, place: str, answers: Mapping[bytes, Rows], spent: Spent) -> dict[bytes, Rows]:
        """Keep answers (float32 `[K]` by key) and what they took, and return them as they are known from now on.

        Of two answers to one question, as two processes may get at once, the first one counts.
        """
        kept = dict(answers)
        with self._writing() as db:
            db.execute(_SPEND, (endpoint, place, *dataclasses.astuple(spent)))
            for key, scores in answers.items():
                if not db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, _packed(scores))).rowcount:
                    ((stored,),) = db.execute("SELECT answer FROM answers WHERE key = ?", (key,))
                    before = _unpacked(stored)
                    if before is None:
                        db.execute("UPDATE answers SET answer = ? WHERE key = ?", (_packed(scores), key))
                    else:
                        kept[key] = before
        return kept

    def keep_canary(self, endpoint: str, key: bytes, row: Rows) -> None:
        """Keep a row whole, if there are not enough of this endpoint's yet."""
        with self._lock:
            number = self._canaries[endpoint]
            if number >= CANARIES:
                return
            self._canaries[endpoint] += 1
        with self._writing() as db:
            told = (endpoint, number, key, json.dumps(row.shape), np.ascontiguousarray(row, np.float32).tobytes())
            db.execute("INSERT OR IGNORE INTO canaries VALUES (?, ?, ?, ?, ?)", told)

    def _kept_whole(self) -> frozenset[str]:
        if self._path is None or not self._path.is_file():
            return frozenset()
        with self._in_words():
            return frozenset(name for (name,) in self._opened().execute("SELECT DISTINCT endpoint FROM canaries"))

    def canaries(self, endpoint: str) -> list[tuple[Rows, Rows]]:
        """Return the rows kept whole of an endpoint, each with the answer that it had."""
        with self._lock, self._in_words():
            if self._db is None and (self._path is None or not self._path.is_file()):
                return []
            query = "SELECT key, shape, pixels FROM canaries WHERE endpoint = ? ORDER BY number"
            found = list(self._opened().execute(query, (endpoint,)))
        answers = self.known([key for key, _, _ in found])
        rows = [(key, np.frombuffer(pixels, np.float32).reshape(json.loads(shape))) for key, shape, pixels in found]
        return [(row, answers[key]) for key, row in rows if key in answers]

    def spent(self) -> dict[tuple[str, str], Spent]:
        """Return what was asked, by endpoint and what for."""
        with self._lock, self._in_words():
            if self._db is None and (self._path is None or not self._path.is_file()):
                return {}
            self._flush()
            rows = self._opened().execute(SPENT)
            return {(endpoint, name): Spent(*counts) for endpoint, name, *counts in rows}

    def total(self, endpoint: str) -> Spent:
        """Return what was asked of an endpoint in all."""
        whole = Spent()
        for (named, _), one in self.spent().items():
            whole = whole.plus(one) if named == endpoint else whole
        return whole

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _connected(self._path)
        return self._db

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._in_words():
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                for (endpoint, name), rows in self._asked.items():
                    db.execute(_SPEND, (endpoint, name, rows, 0, 0, 0))
                db.execute("COMMIT")
            except BaseException:
                # a full disk has rolled it back already
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            self._asked.clear()

    def _flush(self) -> None:
        if self._asked:
            with self._writing():
                pass

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise told(error, self._path) from error

    def _copy(self, memory: sqlite3.Connection) -> None:
        # what was asked before anybody knew where the run would be
        with self._writing() as db:
            db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", memory.execute("SELECT * FROM answers"))
            db.executemany(
                "INSERT OR IGNORE INTO canaries VALUES (?, ?, ?, ?, ?)", memory.execute("SELECT * FROM canaries")
            )
            db.executemany(_SPEND, memory.execute("SELECT * FROM spent"))

    def _take_from(self, path: Path) -> None:
        try:
            with contextlib.closing(read_only(path)) as other:
                rows = other.execute("SELECT * FROM answers")
                whole = other.execute("SELECT * FROM canaries")
                with self._writing() as db:
                    db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)
                    db.executemany("INSERT OR IGNORE INTO canaries VALUES (?, ?, ?, ?, ?)", whole)
        except (sqlite3.DatabaseError, AssayError) as error:
            self.warnings.append(f"The answers in {path} could not be taken over ({error}): they are asked again.")

    def _put_aside_if_damaged(self, folder: Path) -> None:
        assert self._path is not None, "it is kept in a folder"
        try:
            self._db = _connected(self._path)
            ((found,),) = self._db.execute("PRAGMA quick_check(1)")
            wrong = "" if found == "ok" else str(found)
        except sqlite3.OperationalError as error:
            raise told(error, self._path) from error
        except sqlite3.DatabaseError as error:
            wrong = str(error)
        if not wrong:
            return
        if self._db is not None:
            self._db.close()
            self._db = None
        aside = folder / DAMAGED / FILE
        number = 1
        while aside.exists():
            number += 1
            aside = aside.with_name(f"answers-{number}.sqlite")
        aside.parent.mkdir(parents=True, exist_ok=True)
        for ending in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + ending)
            if part.exists():
                shutil.move(part, aside.with_name(aside.name + ending))
        self.warnings.append(
            f"{self._path} is damaged ({wrong}); moved to {aside}. Its answers are asked again where they are needed, "
            "and queries are counted from 0."
        )


def _connected(path: Path | None) -> sqlite3.Connection:
    # autocommit: transactions are begun by hand, so that they lock before they read
    db = sqlite3.connect(path or ":memory:", timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        if path is not None:
            db.execute("PRAGMA journal_mode = WAL")
            # outlives the process, which is what dies; the last answers before a power cut are asked again
            db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_TABLES)
    except BaseException:
        db.close()
        raise
    return db


def _billed(db: sqlite3.Connection, endpoint: str) -> int:
    ((billed,),) = db.execute("SELECT coalesce(sum(billed), 0) FROM spent WHERE endpoint = ?", (endpoint,))
    return int(billed)


def _packed(scores: Rows) -> bytes:
    content = np.ascontiguousarray(scores, "<f4").tobytes()
    return zlib.crc32(content).to_bytes(4, "little") + content


def _unpacked(stored: bytes) -> Rows | None:
    content = stored[4:]
    if zlib.crc32(content).to_bytes(4, "little") != stored[:4]:
        return None
    return np.frombuffer(content, "<f4").astype(np.float32)


__all__ = ["Ledger", "QueriesSpent", "current"]
