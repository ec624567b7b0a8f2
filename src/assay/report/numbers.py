"""The numbers of a run as plain values: what `assay show --json` prints, and what every export holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from assay.evaluation.analysis.rejection import REJECTION_FIELDS
from assay.report import brackets, corruptions, pairs, verdicts
from assay.report.formats import plain

if TYPE_CHECKING:
    from assay.evaluation.run import Run

# what scripts rely on: these names, in this order
FIELDS = (
    "cell", "model", "data", "attack", "threat", "eps", "unit", "grey_levels", "question", "seed", "n",
    "clean_accuracy", "robust_accuracy", "robust_low", "robust_high", "attack_success", "top1_error", "top5_error",
    "median_size", "forwards", "backwards", "queries", "seconds", "errors", "verdict", "excluded",
    "access", "queries_limit", "wording",
)  # fmt: skip


def as_plain(run: Run) -> dict[str, Any]:
    """Return a run's numbers as plain values; what was not measured is None.

    The numbers of models that may refuse an image are there where the run has one.
    """
    rows = plain(run.results())
    rare = (*REJECTION_FIELDS, "ignores_defense", "certified")
    names = [*FIELDS, *(name for name in rare if rows and name in rows[0])]
    return {
        "study": run.study,
        "status": run.status,
        "reportable": bool(run.manifest.get("reportable")),
        "results": [{name: _plain(row[name]) for name in names} for row in rows],
        **({"brackets": [brackets.plain(table) for table in bounds]} if (bounds := run.brackets()) else {}),
        **({"pairs": [pairs.plain(table) for table in judged]} if (judged := run.pairs()) else {}),
        **({"verdicts": [verdicts.plain(one) for one in told]} if (told := run.verdicts()) else {}),
        **({"endpoints": asked} if (asked := run.endpoints()) else {}),
        **({"corruptions": [corruptions.plain(table) for table in tables]} if (tables := run.corruptions()) else {}),
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
