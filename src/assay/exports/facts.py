"""What every export holds of a run: the numbers of `assay show --json`, and the facts they rest on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from typing import TYPE_CHECKING, Any

from assay.evaluation.records.verdicts import REFUTED
from assay.report.formats import audited
from assay.report.numbers import as_plain, over_attacks

if TYPE_CHECKING:
    from assay.evaluation.run import Run

_NONE: dict[str, Any] = {"after_escalation": None, "resolution": None}

_FACTS = (
    "command", "started", "finished", "not_reportable_because", "warnings", "environment", "models", "data", "cells",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Facts:
    """A run as exports see it."""

    run: Run

    @functools.cached_property
    def shown(self) -> dict[str, Any]:
        """What `assay show --json` prints."""
        return as_plain(self.run)

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One flat row per cell and budget: the fields of `results` in `shown`, and a few more; None is no number.

        `after_escalation` is what an audit left of the number, `goal` what the attack wanted.
        """
        return [{name: finite(value) for name, value in row.items()} for row in audited(self.run)]

    @functools.cached_property
    def worst(self) -> list[dict[str, Any]]:
        """The worst case over several attacks, image by image: rows like those of `rows`, without a cell.

        It is at most what any one attack leaves, and the number to cite.
        """
        made = []
        for group, one, row in over_attacks(self.run):
            bounds = {verdict.eps: verdict.resolution for verdict in group.verdicts}
            told = {"after_escalation": group.left(one), "resolution": bounds.get(one.eps)} if one.verdict else _NONE
            made.append({name: finite(value) for name, value in {**row, **told}.items()})
        return made

    @functools.cached_property
    def identity(self) -> str:
        """What tells this run directory from others, and stays the same when its run goes on."""
        about = (self.run.far or str(self.run.path.resolve()), self.run.study, str(self.run.manifest.get("started")))
        return hashlib.blake2b("\0".join(about).encode(), digest_size=12).hexdigest()

    @property
    def manifest(self) -> dict[str, Any]:
        """What the numbers rest on: models, data, cells, machine, versions."""
        return {name: finite(self.run.manifest.get(name)) for name in _FACTS}

    @property
    def reservations(self) -> list[str]:
        """Why the numbers are not to be reported, and what is missing of them; nothing where all is well."""
        return self.run.reservations()

    def document(self) -> dict[str, Any]:
        """Return everything: `assay show --json`, and the manifest's facts under `facts`."""
        return {**self.shown, "facts": self.manifest}


def kept(row: dict[str, Any]) -> float | None:
    """Return the accuracy that a row's attack leaves: of a refuted number what the escalation left."""
    measured: float | None = row["robust_accuracy"]
    after: float | None = row["after_escalation"]
    return after if row["verdict"] == REFUTED and after is not None else measured


def finite(value: Any) -> Any:
    """Return plain values with None for numbers that are none: JSON and YAML have no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, (list, tuple)) else value
