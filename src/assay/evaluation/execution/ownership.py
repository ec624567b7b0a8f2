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
from assay.evaluation.execution.lock import NAME as LOCK
from assay.evaluation.execution.lock import Held, Say, entering, holding, unheard
from assay.evaluation.execution.options import Options
from assay.evaluation.execution.parts import (
    SHARES,
    WAITING,
    Part,
    check_alone,
    digest_of,
    divide,
    lock_of,
    others,
    read_division,
    warnings_of,
)
from assay.evaluation.execution.share import Share
from assay.evaluation.plan import Plan
from assay.evaluation.records.manifest import (
    STARTED,
    SUCCESS,
    add_warnings,
    changed_versions,
    new_manifest,
    read_manifest,
    write_manifest,
)
from assay.evaluation.records.store import DAMAGED, GALLERY, RESULTS, RETIRED, Store
from assay.evaluation.run import STUDY_FILE
from assay.evaluation.study.yaml_source import write_yaml
from assay.files import append_log, machine, make_folder, write_atomically
from assay.models.remote.ledger import current
from assay.spending import FOLDER

_OURS = {FOLDER, SHARES, LOCK, "log", STUDY_FILE, NUMBERS, RESULTS, RETIRED, DAMAGED, GALLERY}

# what tells two studies apart, in the order it is told; the last ones follow from the first and are told only alone
_TELLING = (
    "seed", "data", "n", "model", "outputs", "weights", "fingerprint", "ids_digest", "attack", "threat", "eps",
    "question", "goal", "order", "chunk", "preprocess", "version",
)  # fmt: skip
_WORDS = {"n": "samples", "ids_digest": "sample ids", "fingerprint": "data fingerprint", "version": "attack version"}


@dataclasses.dataclass(frozen=True)
class HeldDirectory:
    """A run directory that this process may write into: alone, or a `part` of it beside other shares.

    Finished shards are taken from `source`, if any; `taken_over` says that the run before in it died. `held` tells
    others how far it is. `warnings` are those of shares that ran before.
    """

    folder: Path
    source: Path | None
    taken_over: bool
    held: Held | None = None
    part: Part | None = None
    warnings: tuple[str, ...] = ()


@contextlib.contextmanager
def hold(
    out: str | os.PathLike[str], plan: Plan, options: Options, *, fork: bool | None = None, say: Say = unheard
) -> Iterator[HeldDirectory]:
    """Make the run directory of a plan where needed, and hold it; the ledger that is in use is kept there from now on.

    With a share it is held beside other shares of the same plan, and otherwise alone. `fork` stands in the place of
    the options'. Raises `BadInput` for a directory of another study or in use, `DiskError` for one that cannot be
    written.
    """
    share = options.part()
    folder, source = claim(Path(out).expanduser(), plan, options.fork if fork is None else fork)
    make_folder(folder)
    if share is not None:
        with _joined(folder, source, plan, options, say=say) as directory:
            yield directory
        return
    with holding(folder / LOCK, say=say) as held:
        killed = check_alone(folder, say)
        _keep_ledger(folder, source)
        warnings = tuple(warnings_of(folder, digest_of(plan.cells)))
        yield HeldDirectory(folder, source, held.taken_over or killed, held, warnings=warnings)


def arrange(folder: Path, source: Path | None, plan: Plan) -> list[str]:
    """Bring the shards of a directory that nobody else writes into in order for a plan, and return what was done."""
    store, warnings = Store(folder), []
    store.clean()
    if source is not None:
        count = store.take_from(Store(source), plan.cells)
        warnings.append(f"Forked from {source}: {count} finished shards are its.")
    gone = store.keep_only(plan.cells)
    if gone:
        warnings.append(f"{len(gone)} cells are no longer in the study; their records rest in retired/.")
    return warnings


@contextlib.contextmanager
def whole(directory: HeldDirectory) -> Iterator[HeldDirectory | None]:
    """Hold the directory of a share that came to its end as a whole, where every other share did; else None."""
    part = directory.part
    assert part is not None, "a whole run has nothing to wait for"
    with part.last() as held:
        warnings = tuple(warnings_of(directory.folder, part.plan))
        found = HeldDirectory(directory.folder, None, taken_over=False, held=held, warnings=warnings)
        yield found if held is not None else None


@contextlib.contextmanager
def _joined(folder: Path, source: Path | None, plan: Plan, options: Options, *, say: Say) -> Iterator[HeldDirectory]:
    share = options.part()
    assert share is not None, "there is something to join"
    make_folder(folder / SHARES)
    with holding(lock_of(folder, share), f"share {share}{WAITING}", say=say) as held:
        kind = (options.first_device or "").partition(":")[0]
        part = Part(folder, share, digest_of(plan.cells), held, say, kind)
        with entering(folder, say=say):
            _enter(part, source, plan, options)
            _keep_ledger(folder, source)
            changed = changed_versions(read_manifest(folder))
            warnings = [f"Share {share} ran under other versions ({changed})."] if changed else []
            if others_on := part.other_devices:
                warnings.append(
                    f"Share {share} computed on {kind}, and others on {', '.join(others_on)}, which round "
                    "differently: a record depends on which of them made it."
                )
            part.note(STARTED, warnings=warnings)
            held.rename(f"share {share}")
        yield HeldDirectory(folder, source, held.taken_over, held, part, tuple(warnings))


def _enter(part: Part, source: Path | None, plan: Plan, options: Options) -> None:
    """Join the shares of a plan, or begin them. Raises `BadInput` beside those of another plan or division."""
    folder, share = part.folder, part.share
    before = read_manifest(folder)
    same = bool(before) and _same(before, plan)
    finished = before.get("status") == SUCCESS
    if not (same and read_division(folder) == share.of and not (finished and options.retry_errors)):
        if found := others(folder, share, say=part.say):
            raise BadInput(_apart(folder, share, plan, before, str(found[0].holder)))
        # another study may have taken the directory while this one waited for it
        if why := belongs_elsewhere(folder, plan):
            raise BadInput(f"{folder} belongs to another study ({why}). Use another --out.")
        notes = arrange(folder, source, plan)
        if not (same and finished) or options.retry_errors:
            manifest = new_manifest(plan, options.command, before)
            add_warnings(manifest, [*plan.notes, *notes])
            write_atomically(folder / STUDY_FILE, write_yaml(plan.study.plain()).encode())
            write_manifest(folder, manifest)
        divide(folder, share.of)
        append_log(folder, f"divided into {share.of} shares")
    if any(facts.get("endpoints") for facts in plan.models.values()):
        for one in others(folder, share, say=part.say):
            if one.holder is not None and one.holder.machine != machine():
                raise BadInput(
                    f"{one.holder} is another machine, and the file that keeps what the endpoint answers and counts "
                    "its queries can be used by one machine alone, on a shared disk too. Run the shares of a model "
                    "behind an endpoint on one machine, or all of it with --executor processes: the endpoint does the "
                    "work."
                )


def _same(manifest: Mapping[str, Any], plan: Plan) -> bool:
    return list(manifest["cells"]) == [cell.digest for cell in plan.cells] and manifest["study"] == plan.study.study


def _apart(folder: Path, share: Share, plan: Plan, manifest: Mapping[str, Any], who: str) -> str:
    if manifest and not _same(manifest, plan):
        why = "another plan: " + difference([cell.plain() for cell in plan.cells], manifest["cells"].values())
    else:
        why = f"a division into {read_division(folder)} shares, and this one would be {share}"
    return f"{folder} is being written by {who}: {why}. Wait for it, stop it, or use another --out."


def _keep_ledger(folder: Path, source: Path | None) -> None:
    if (ledger := current()) is not None:
        ledger.keep_in(folder, source)


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
