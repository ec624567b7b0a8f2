"""Shares of a run in words: who works on what, and what a share leaves to others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.console.output import say
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.execution.parts import Standing
    from assay.evaluation.execution.share import Share
    from assay.session import Finished


def who_works(folders: Iterable[Path]) -> dict[Path, list[Standing]]:
    """Return how the shares of some run directories stand, and who works on whole runs.

    Holders on other machines are listened to for a few seconds where the disk does not tell whether they live.
    """
    from assay.evaluation.execution.lock import BEAT, look
    from assay.evaluation.execution.parts import locks_of_all, standings

    locks = {folder: locks_of_all(folder) for folder in folders}
    # each gives a sign within a beat, and network disks take a moment
    found = look([path for paths in locks.values() for path in paths], seconds=1.6 * BEAT, say=say)
    return {folder: standings(folder, [one for one in found if one.path in paths]) for folder, paths in locks.items()}


def in_words(one: Standing) -> str:
    """Return who does what, since when and how far."""
    since = one.since[:16].replace("T", " ")
    who = f"process {one.pid} on {one.host}" + (f" since {since}" if since else "") if one.pid is not None else ""
    far = f"{one.units} of {plural(one.planned, 'unit')}" if one.planned is not None else ""
    reason = f": {one.error}" if one.error else ""
    return ", ".join(filter(None, [f"{one.name} {one.state}", who, far])) + reason


_FEW = 3


def told(stand: Sequence[Standing], missing: Mapping[Share, int] | None = None) -> list[str]:
    """Return a line for each share in words, and one for many on end that were not begun.

    `missing` are the units of shares that nobody did, to be told beside them.
    """
    lines = []
    for run, some in itertools.groupby(enumerate(stand), key=_run):
        mine = [one for _, one in some]
        units = [(missing or {}).get(one.share, 0) if one.share is not None else 0 for one in mine]
        if run is not None and len(mine) > _FEW:
            lines.append(f"shares {mine[0].share} to {mine[-1].share} not begun{_missing(sum(units))}")
        else:
            lines += [in_words(one) + _missing(count) for one, count in zip(mine, units, strict=True)]
    return lines


def _run(placed: tuple[int, Standing]) -> tuple[int, int] | None:
    # the same for shares that were not begun and follow each other
    place, one = placed
    return (one.share.of, one.share.number - place) if one.state == "not begun" and one.share is not None else None


def _missing(units: int) -> str:
    return f"; {units} missing" if units else ""


def what_is_left(finished: Finished) -> Iterator[str]:
    """Yield what a share did, who is still at work and what nobody does."""
    folder, share = finished.run.path, finished.share
    own = next(one for one in finished.shares if one.share == share)
    rest = [one for one in finished.shares if one.share != share]
    nothing = " (the plan has fewer units than shares)" if own.planned == 0 else ""
    yield f"Share {share} is done: {own.units} of {plural(own.planned or 0, 'unit')}{nothing}."
    if own.errors:
        yield f"{plural(own.errors, 'chunk')} of it hold samples that could not be evaluated."
    at_work = [one for one in rest if one.at_work]
    if at_work:
        yield f"At work   {'; '.join(map(in_words, at_work[:4]))}{' …' if len(at_work) > 4 else ''}"
    left = [one for one in rest if not one.at_work and one.state != "done"]
    if left:
        yield f"Not done  {'; '.join(map(in_words, left[:4]))}{' …' if len(left) > 4 else ''}"
    yield f"The last share finishes the run. How far it is: assay gather {folder}"
