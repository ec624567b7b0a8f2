"""The shares of a run in its directory: each holds a lock of its own, and notes how it ended in a file of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.evaluation.execution.lock import (
    DOOR,
    NAME,
    RUN,
    Found,
    Held,
    Holder,
    InUse,
    Say,
    entering,
    locked,
    look,
    unheard,
)
from assay.evaluation.execution.share import Share
from assay.evaluation.planned import InChunks
from assay.evaluation.records.manifest import CANCELLED, FAILED, STARTED, SUCCESS, now
from assay.files import DiskError, write_atomically

SHARES = "shares"
_DIVISION = "division.json"

WAITING = ", waiting to begin"
"""What follows the name of a share that has not entered yet: when it does, it looks who is there itself."""

WORKING, UNSURE, KILLED, DONE, NOT_BEGUN = "working", "working elsewhere", "killed", "done", "not begun"
"""How a share stands; besides, as runs do, `error` and `cancelled`."""


def lock_of(folder: Path, share: Share) -> Path:
    """Return where the lock of a share is."""
    return folder / SHARES / f"{share.name}.lock"


def locks(folder: Path) -> list[Path]:
    """Return the locks of all shares that were ever held here."""
    return sorted((folder / SHARES).glob("*.lock"))


def digest_of(cells: Iterable[InChunks]) -> str:
    """Return the name of a plan: everything that says which units there are, and whose each is."""
    return hashlib.blake2b(" ".join(cell.digest for cell in cells).encode(), digest_size=8).hexdigest()


def read_division(folder: Path) -> int | None:
    """Return into how many shares a run is divided; None where it is not."""
    of = _read(folder / SHARES / _DIVISION).get("of")
    return of if isinstance(of, int) and of > 0 else None


def divide(folder: Path, of: int) -> None:
    """Begin a division into `of` shares. Raises `DiskError`."""
    for path in (folder / SHARES).glob("*-of-*.json"):
        path.unlink(missing_ok=True)
    write_atomically(folder / SHARES / _DIVISION, json.dumps({"of": of}).encode())


@dataclasses.dataclass(frozen=True)
class Part:
    """A share that this process holds, of the plan whose digest is `plan`; `device` is the kind that it computes on."""

    folder: Path
    share: Share
    plan: str
    held: Held
    say: Say = unheard
    device: str = ""

    @property
    def other_devices(self) -> list[str]:
        """The kinds of devices that other shares of the plan computed on."""
        told = [one.get("device") for share, one in read_parts(self.folder).items() if one.get("plan") == self.plan]
        return sorted({str(kind) for kind in told if kind and kind != self.device}) if self.device else []

    def note(self, status: str, **facts: Any) -> None:
        """Note how far it is. Raises `DiskError`."""
        holder = Holder.here(f"share {self.share}")
        told = {"share": str(self.share), "plan": self.plan, "status": status, "host": holder.host, "pid": holder.pid}
        told["device"] = self.device
        path = _part(self.folder, self.share)
        since = now() if status == STARTED else _read(path).get("since", now())
        write_atomically(path, json.dumps({**told, "since": since, **facts}, indent=1, ensure_ascii=False).encode())

    @contextlib.contextmanager
    def ending(self, facts: dict[str, Any]) -> Iterator[None]:
        """Note how the share ends, with `facts` as they are then."""
        status, error = FAILED, ""
        try:
            yield
            status = SUCCESS
        except KeyboardInterrupt:
            status = CANCELLED
            raise
        except Exception as raised:
            error = str(raised)
            raise
        finally:
            # where the disk is full the first error is the one to hear
            with contextlib.nullcontext() if status == SUCCESS else contextlib.suppress(DiskError):
                self.note(status, ended=now(), error=error, **facts)

    @property
    def all_done(self) -> bool:
        """Whether every share of the plan came to its end."""
        parts = read_parts(self.folder)
        mine = [parts.get(Share(number, self.share.of), {}) for number in range(1, self.share.of + 1)]
        return all(one.get("status") == SUCCESS and one.get("plan") == self.plan for one in mine)

    @contextlib.contextmanager
    def last(self) -> Iterator[Held | None]:
        """Hold the whole directory where no share is left to do; None where one is, or another process holds it."""
        with contextlib.ExitStack() as stack:
            held = None
            if self.all_done:
                with contextlib.suppress(InUse):
                    held = stack.enter_context(entering(self.folder, say=self.say))
            # a share may have begun again before the door was shut
            if held is not None and not self.all_done:
                stack.close()
                held = None
            if held is not None:
                held.rename(RUN)
            yield held


def read_parts(folder: Path) -> dict[Share, dict[str, Any]]:
    """Return what the shares of a run noted, by share."""
    found = {}
    for path in (folder / SHARES).glob("*-of-*.json"):
        told = _read(path)
        with contextlib.suppress(BadInput):
            found[Share.read(str(told.get("share")))] = told
    return found


def warnings_of(folder: Path, plan: str) -> list[str]:
    """Return the warnings that the shares of a plan noted."""
    parts = sorted(read_parts(folder).items())
    return [str(text) for _, told in parts if told.get("plan") == plan for text in told.get("warnings", ())]


def others(folder: Path, but: Share | None = None, *, say: Say = unheard) -> list[Found]:
    """Return the shares besides `but` that are being worked on; the names of those that are gone are taken away.

    Whoever asks holds the directory. Those that wait to enter it, or have not even named themselves, are left out: they
    look who is there when they do.
    """
    mine = lock_of(folder, but) if but is not None else None
    found = look([path for path in locks(folder) if path != mine], say=say)
    for one in found:
        if not one.alive:
            one.clear()
    return [one for one in found if one.alive and one.holder and not one.holder.what.endswith(WAITING)]


def check_alone(folder: Path, say: Say = unheard) -> bool:
    """Raise `InUse` where a share is being worked on, naming it; return whether one was killed."""
    before = {path: path.stat().st_size for path in locks(folder)}
    found = others(folder, say=say)
    if found:
        who = ", ".join(str(one.holder) for one in found[:3]) + (" …" if len(found) > 3 else "")
        fix = "Wait for them, stop them, or use another --out; `assay gather` says how far they are."
        raise InUse(f"{folder} is being written by {who}. {fix}", found[0].holder)
    return any(size for size in before.values())


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a run directory, and see that no share of it is being worked on. Raises `InUse`."""
    with locked(folder):
        check_alone(folder)
        yield


@dataclasses.dataclass(frozen=True)
class Standing:
    """How a share of a run stands, or (`share` of None) a whole run that is being worked on or was killed.

    `since` is by the clock of `host`. `units` of `planned` are done, where it said so; `errors` are chunks of a share
    that came to its end in which samples have an error. `error` is what a share failed by.
    """

    share: Share | None
    state: str
    host: str = ""
    pid: int | None = None
    since: str = ""
    units: int | None = None
    planned: int | None = None
    errors: int | None = None
    error: str = ""

    @property
    def at_work(self) -> bool:
        """Whether somebody works on it, as far as one can see from here."""
        return self.state in (WORKING, UNSURE)

    @property
    def name(self) -> str:
        """Return what it is in words."""
        return f"share {self.share}" if self.share is not None else "the run"

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**dataclasses.asdict(self), "share": str(self.share) if self.share is not None else None}


def locks_of_all(folder: Path) -> list[Path]:
    """Return the locks of a run directory: of its shares, and of a whole run."""
    return [folder / NAME, *locks(folder)]


def standings(folder: Path, found: Iterable[Found]) -> list[Standing]:
    """Return how the shares of a run stand, and a whole run that is at work or was killed.

    `found` is what `look` says of its locks. A run that nobody holds and that is not divided has none.
    """
    known = {one.path: one for one in found}
    whole = known.get(folder / NAME)
    passing = whole is None or (whole.holder is not None and whole.holder.what == DOOR)
    told = [] if passing or whole is None else [_standing(None, whole, {})]
    parts = read_parts(folder)
    # one of an earlier division may still be at work
    there = {share for share in map(_share_of, known) if share is not None}
    there |= {Share(number, of) for of in [read_division(folder)] if of for number in range(1, of + 1)}
    return told + [_standing(share, known.get(lock_of(folder, share)), parts.get(share, {})) for share in sorted(there)]


def _standing(share: Share | None, found: Found | None, part: dict[str, Any]) -> Standing:
    holder = found.holder if found is not None else None
    told = Standing(
        share,
        # without its end and without its lock it was killed, and its name taken away
        {SUCCESS: DONE, STARTED: KILLED}.get(part["status"], part["status"]) if part else NOT_BEGUN,
        part.get("host", ""),
        part.get("pid"),
        part.get("since", ""),
        part.get("units"),
        part.get("planned"),
        part.get("errors"),
        part.get("error", ""),
    )
    if found is None or not (holder is not None or found.alive):
        return told
    told = dataclasses.replace(told, state={True: WORKING, None: UNSURE, False: KILLED}[found.alive], error="")
    if holder is None:
        return told
    told = dataclasses.replace(told, host=holder.host, pid=holder.pid, since=holder.since)
    # before its first unit it has not said how far it is
    return told if holder.planned is None else dataclasses.replace(told, units=holder.units, planned=holder.planned)


def _share_of(path: Path) -> Share | None:
    with contextlib.suppress(BadInput):
        return Share.read(path.stem.replace("-of-", "/"))
    return None


def _part(folder: Path, share: Share) -> Path:
    return folder / SHARES / f"{share.name}.json"


def _read(path: Path) -> dict[str, Any]:
    # what a share noted is for people: one that cannot be read is one that is not there
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
