"""A share of a plan: which of its units a run does that others do the rest of."""

from __future__ import annotations

import dataclasses
import heapq
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.evaluation.cell import Cell, Unit

SLURM = "slurm"

MOST = 100_000
"""So many shares at most: no queue has more tasks, and each has a place in every table of who does what."""


@dataclasses.dataclass(frozen=True, order=True)
class Share:
    """Share `number` (from 1) of `of`."""

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Share:
        """Return the share that `3/8` means, or, for `slurm`, that of this task of a job array.

        Raises `BadInput` for what is none.
        """
        if text == SLURM:
            return _of_array(os.environ)
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None:
            raise BadInput(f"share {text!r} is none; expected a number and how many there are, such as 3/8, or slurm.")
        number, of = map(int, found.groups())
        if not 1 <= number <= of:
            raise BadInput(f"share {text} is none; shares count from 1: of {of} they are 1/{of} to {of}/{of}.")
        if of > MOST:
            raise BadInput(f"share {text} is of {of:,}, expected at most {MOST:,}. Use fewer shares.")
        return cls(number, of)

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.number}-of-{self.of}"

    def units(self, units: Sequence[Unit]) -> list[Unit]:
        """Return those of all `units` of a plan that are its own, in the order of the plan."""
        return deal(units, self.of)[self.number - 1]


def deal(units: Sequence[Unit], shares: int) -> list[list[Unit]]:
    """Return the units of each share: all about as costly, the same wherever it is asked.

    The costliest unit goes first, each to the share that has least so far. Cost is passes, which depend on the study
    alone; how fast a machine is does not.
    """
    per_sample: dict[str, int] = {}
    for unit in units:
        if unit.cell.digest not in per_sample:
            per_sample[unit.cell.digest] = _cost(unit.cell)
    costs = [per_sample[unit.cell.digest] * len(unit.cell.positions(unit.chunk)) for unit in units]
    least = [(0, 0, number) for number in range(shares)]
    mine: list[list[int]] = [[] for _ in range(shares)]
    for at in sorted(range(len(units)), key=lambda at: (-costs[at], at)):
        cost, count, number = least[0]
        heapq.heapreplace(least, (cost + costs[at], count + 1, number))
        mine[number].append(at)
    return [[units[at] for at in sorted(one)] for one in mine]


def _cost(cell: Cell) -> int:
    # building attacks needs torch, and who looks how shares stand does not
    from assay.evaluation.passes import passes_per_sample

    # a step back takes about twice the time of one forward
    passes = passes_per_sample(cell)
    return passes.forwards + 2 * passes.backwards


def _of_array(environment: Mapping[str, str]) -> Share:
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "MAX")]
    try:
        task, count, least, most = (int(environment[name]) for name in names)
    except (KeyError, ValueError):
        missing = next(name for name in names if not _whole(environment.get(name, "")))
        told = f"{environment[missing]!r}" if missing in environment else "not set"
        raise BadInput(
            f"share slurm: {missing} is {told}. The tasks of a job array have it: sbatch --array=1-8; "
            "elsewhere write the share itself, such as 3/8."
        ) from None
    apart = (most - least) // (count - 1) if count > 1 else 1
    if apart < 1 or least + apart * (count - 1) != most or (task - least) % apart:
        raise BadInput(
            f"share slurm: the {count} tasks of this job array, from {least} to {most}, are not evenly spaced, so that "
            "none knows which share is its own. Use --array=1-N, or write the share: --share $SLURM_ARRAY_TASK_ID/N."
        )
    if not least <= task <= most:
        raise BadInput(
            f"share slurm: SLURM_ARRAY_TASK_ID is {task}, and the tasks of this job array are {least} to {most}. Leave "
            "these variables as Slurm sets them, or write the share itself, such as 3/8."
        )
    return Share((task - least) // apart + 1, count)


def _whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True
