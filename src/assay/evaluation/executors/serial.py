"""One unit after the other, in this process: for models built in Python, and wherever one process is enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from assay.evaluation.cell import Unit
from assay.evaluation.executors.base import Answer, Job, perform


@dataclasses.dataclass(frozen=True)
class Serial:
    """Runs units here."""

    def run(self, units: Sequence[Unit], job: Job) -> Iterator[Answer]:
        """Yield one answer per unit, in order."""
        for unit in units:
            yield perform(unit, job.loader)
