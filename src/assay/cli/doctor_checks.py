"""The doctor's checks in one visible table; each reads the evidence and says value, expectation and fix."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from assay.cli.doctor_accuracy import clean_accuracy
from assay.cli.doctor_data import images, labels, normalisation
from assay.cli.doctor_evidence import gather
from assay.cli.doctor_findings import Case, Finding, Level
from assay.cli.doctor_model import eval_mode, gradients, outputs, train_mode, weights
from assay.core.errors import AssayError
from assay.data import Data
from assay.evaluation.cost import Speed
from assay.models import Classifier

SILENTLY, THOROUGHLY = 32, 200
"""How many images are looked at before every run, and by `assay doctor`."""

UNUSABLE = "model and images"
"""The check of what cannot even be asked: no run is possible with it."""

CHECKS: dict[str, Callable[[Case], Iterable[Finding]]] = {
    "weights": weights,
    "outputs": outputs,
    "images": images,
    "labels": labels,
    "eval mode": eval_mode,
    "train mode": train_mode,
    "gradients": gradients,
    "clean accuracy": clean_accuracy,
    "normalisation": normalisation,
}


@dataclasses.dataclass(frozen=True)
class Report:
    """What the checks found, and how fast the model was while they looked."""

    findings: tuple[Finding, ...]
    speed: Speed | None

    def of(self, level: Level) -> list[Finding]:
        """Return the findings of a level."""
        return [one for one in self.findings if one.level is level]


def examine(model: Classifier, data: Data, most: int = THOROUGHLY, batch: int | None = None) -> Report:
    """Look at up to `most` images, at most `batch` per pass, and return what the checks find, the worst first."""
    try:
        case = Case(model, data, gather(model, data, most, batch))
    except AssayError as error:
        return Report((Finding(Level.ERROR, UNUSABLE, str(error)),), None)
    found = (finding for check in CHECKS.values() for finding in check(case))
    return Report(tuple(sorted(found, key=lambda one: list(Level).index(one.level))), case.seen.speed)


__all__ = ["CHECKS", "SILENTLY", "THOROUGHLY", "UNUSABLE", "Finding", "Level", "Report", "examine"]
