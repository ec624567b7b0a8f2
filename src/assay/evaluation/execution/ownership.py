"""Which run directory a study may write into: its own, a new one, or a fork of another's."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.evaluation.analysis.kept_numbers import NUMBERS
from assay.evaluation.execution.lock import locked
from assay.evaluation.plan import Plan
from assay.evaluation.records.manifest import read_manifest
from assay.evaluation.records.store import DAMAGED, GALLERY, RESULTS, RETIRED, Store
from assay.evaluation.run import STUDY_FILE
from assay.files import make_folder
from assay.models.remote.ledger import FOLDER, current

_OURS = {FOLDER, "lock", "log", STUDY_FILE, NUMBERS, RESULTS, RETIRED, DAMAGED, GALLERY}

# what tells two studies apart, in the order it is told; the last ones follow from the first and are told only alone
_TELLING = (
    "seed", "data", "n", "model", "outputs", "weights", "fingerprint", "ids_digest", "attack", "threat", "eps",
    "question", "goal", "order", "chunk", "preprocess", "version",
)  # fmt: skip
_WORDS = {"n": "samples", "ids_digest": "sample ids", "fingerprint": "data fingerprint", "version": "attack version"}


@dataclasses.dataclass(frozen=True)
class HeldDirectory:
    """A run directory that this process alone may write into.

    Finished shards are taken from `source`, if any; `taken_over` says that the run before in it died.
    """

    folder: Path
    source: Path | None
    taken_over: bool


@contextlib.contextmanager
def hold(out: str | os.PathLike[str], plan: Plan, fork: bool = False) -> Iterator[HeldDirectory]:
    """Make the run directory of a plan where needed, and hold it; the ledger that is in use is kept there from now on.

    Raises `BadInput` for a directory of another study or in use, `DiskError` for one that cannot be written.
    """
    folder, source = claim(Path(out).expanduser(), plan, fork)
    make_folder(folder)
    with locked(folder) as taken_over:
        if (ledger := current()) is not None:
            ledger.keep_in(folder, source)
        yield HeldDirectory(folder, source, taken_over)


def claim(out: Path, plan: Plan, fork: bool = False) -> tuple[Path, Path | None]:
    """Return the directory to write into, and the one to take finished shards from, if any.

    Raises `BadInput` when `out` belongs to another study and no fork is wanted, or is no run directory at all.
    """
    why = belongs_elsewhere(out, plan)
    if not why:
        return out, None
    if not fork:
        fix = "Use another --out, or --fork to start from its finished cells."
        raise BadInput(f"{out} belongs to another study ({why}). {fix}")
    for number in itertools.count(2):
        beside = out.with_name(f"{out.name}-{number}")
        if not belongs_elsewhere(beside, plan):
            return beside, out
    raise AssertionError("unreachable: some number is free")


def belongs_elsewhere(folder: Path, plan: Plan) -> str:
    """Return how the study that `folder` belongs to differs from the plan's; "" if it does not, or is free.

    A directory belongs to a study of the same name that shares a cell with it: added and changed cells are welcome.
    """
    if not folder.exists():
        return ""
    if not folder.is_dir():
        raise BadInput(f"{folder} is a file. A run needs a directory of its own: use another --out.")
    manifest = read_manifest(folder)
    if not manifest:
        strangers = [path.name for path in folder.iterdir() if path.name not in _OURS and not path.name.startswith(".")]
        if strangers:
            raise BadInput(f"{folder} holds other files ({', '.join(sorted(strangers)[:3])}). Use another --out.")
        return ""
    if manifest["study"] != plan.study.study:
        return f"study {plan.study.study!r} here, study {manifest['study']!r} there"
    stored = Store(folder).cells()
    if not stored or stored & {cell.digest for cell in plan.cells}:
        return ""
    return difference([cell.plain() for cell in plan.cells], manifest["cells"].values())


def difference(here: Iterable[Mapping[str, Any]], there: Iterable[Mapping[str, Any]]) -> str:
    """Return the first few settings in which two lists of cells have nothing in common, in words."""
    ours, theirs = list(here), list(there)
    told = []
    for name in _TELLING:
        mine, others = _values(ours, name), _values(theirs, name)
        if mine and others and not set(mine) & set(others):
            word = _WORDS.get(name, name)
            told.append(f"{word} {'/'.join(mine[:3])} here, {word} {'/'.join(others[:3])} there")
    return "; ".join(told[:2]) or "no cell in common"


def _values(cells: list[Mapping[str, Any]], name: str) -> list[str]:
    values = (cell.get(name) for cell in cells)
    return list(dict.fromkeys(" ".join(v) if isinstance(v, list) else str(v)[:40] for v in values))
