"""The numbers of a run as plain values: what `assay show --json` prints, and what every export holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from assay.evaluation.analysis.rejection import REJECTION_FIELDS
from assay.report import brackets, corruptions, pairs, verdicts
from assay.report.formats import plain
from assay.report.groups import Group, groups

if TYPE_CHECKING:
    from assay.evaluation.analysis.score import Result
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

    The numbers of models that may refuse an image are there where the run has one, and so is the worst case over
    several attacks, image by image: rows like those of `results`, without a cell.
    """
    rows = plain(run.results())
    rare = (*REJECTION_FIELDS, "ignores_defense", "certified")
    worst = [row for _, _, row in over_attacks(run)]
    names = [*FIELDS, *(name for name in rare if rows and name in rows[0])]
    return {
        "study": run.study,
        "status": run.status,
        "reportable": bool(run.manifest.get("reportable")),
        "results": [{name: _plain(row[name]) for name in names} for row in rows],
        **({"worst_case": [{name: _plain(row[name]) for name in names} for row in worst]} if worst else {}),
        **({"brackets": [brackets.plain(table) for table in bounds]} if (bounds := run.brackets()) else {}),
        **({"pairs": [pairs.plain(table) for table in judged]} if (judged := run.pairs()) else {}),
        **({"verdicts": [verdicts.plain(one) for one in told]} if (told := run.verdicts()) else {}),
        **({"endpoints": asked} if (asked := run.endpoints()) else {}),
        **({"corruptions": [corruptions.plain(table) for table in tables]} if (tables := run.corruptions()) else {}),
    }


def over_attacks(run: Run) -> Iterator[tuple[Group, Result, dict[str, Any]]]:
    """Yield each worst case over several attacks, image by image: its group, the result, and its row of plain values.

    It is at most what any one attack leaves, and the number to cite.
    """
    known = run.results()
    found = [(group, one) for group in groups(run) for one in (group.worst.results if group.worst else ())]
    # written together with the run's other results, for a row has what one of them all has
    rows = plain([*known, *(one for _, one in found)])[len(known) :]
    for (group, one), row in zip(found, rows, strict=True):
        yield group, one, {**row, "cell": None, "attack": f"worst case over {', '.join(group.merged)}"}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
