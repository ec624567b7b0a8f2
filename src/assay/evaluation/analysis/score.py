"""From records to numbers: every share with its interval, every denominator a count that is shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.core.budget import NORMALIZED, Budget
from assay.evaluation.analysis.rejection import FrozenThreshold, Rejection, rejection, share
from assay.evaluation.analysis.tallies import CONSTANT, SIZES, SPENT, Tallies, Tally
from assay.evaluation.analysis.worst import WORST_CASE, merged
from assay.evaluation.records.schema import (
    BROKEN,
    CERTIFIED,
    CLEAN_REJECTED,
    CLEAN_WRONG,
    ERROR,
    EXCLUDED,
    UNBROKEN,
)
from assay.statistics import wilson
from assay.vocabulary import PREDICTED_LABELS
from assay.wording import measure

Stds = Mapping[str, Sequence[float] | None]
Thresholds = Mapping[str, FrozenThreshold | None]
Records = pa.Table | Iterable[pa.Table]

COUNTED = (*CONSTANT, "status", "rank", *SPENT)
SCORED = (*COUNTED, *SIZES)
"""The columns that scoring reads; of models that may refuse an image it reads `REFUSAL_COLUMNS` too. Of sizes those in
the norms of the threats will do."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The numbers of one cell at one budget. Accuracies and errors are shares of the `n` samples evaluated.

    `robust_accuracy` is survived / n, `attack_success` is broken / clean_correct; a share of nothing is NaN. The
    intervals are Wilson's at 95 %. `median_size` is over the successes, in the threat's norm and the row's `unit`.
    `errors` counts samples that could not be evaluated, `excluded` those whose label is the goal's target: both are in
    no denominator. Where labels are the model's own answers, the clean accuracy is NaN.

    Of a model that may refuse an image, `robust_accuracy` is the robust accuracy with rejection: an attacked image that
    is refused counts as survived, a clean one as wrong. `rejection` has its other numbers. `ignores_defense` says that
    the images were made on another model, while this one is defended: such a number is not adaptive.

    `access` is the most that the model gives: gradient, scores or labels. Of one that gives scores or labels alone,
    `robust_accuracy` is the share that was not broken by asking at most `queries_limit` times about an image, which
    says less; `wording` is what to call it.
    """

    cell: str
    model: str
    data: str
    attack: str
    threat: str
    eps: float
    eps_written: str
    unit: str
    grey_levels: float
    question: str
    seed: int
    n: int
    clean_accuracy: float
    robust_accuracy: float
    robust_low: float
    robust_high: float
    attack_success: float
    top1_error: float
    top5_error: float
    median_size: float | None
    forwards: int
    backwards: int
    queries: int
    seconds: float
    errors: int
    verdict: str | None
    clean_low: float
    clean_high: float
    broken: int
    clean_correct: int
    survived: int
    goal: str = "untargeted"
    excluded: int = 0
    certified: int = 0
    rejection: Rejection | None = None
    ignores_defense: bool = False
    access: str = "gradient"
    queries_limit: int | None = None

    @property
    def wording(self) -> str:
        """What to call `robust_accuracy`."""
        return measure(self.access, self.queries_limit, elsewhere="surrogate=" in self.attack)


def results(records: Records, stds: Stds | None = None, thresholds: Thresholds | None = None) -> list[Result]:
    """Return one result per cell and budget, in the order of the records.

    `records`, a table or pieces of one, need the columns `SCORED`. `stds` holds the normalisation of each model, for
    budgets in its units, `thresholds` those of models that refuse images.
    """
    tallies = Tallies(("cell", "eps"), _offsets(thresholds))
    for piece in _pieces(records):
        tallies.add(piece)
    return scored(tallies, stds, thresholds)


def worst_case(records: Records, stds: Stds | None = None, thresholds: Thresholds | None = None) -> list[Result]:
    """Return the per-sample worst case over the attacks on one model, data set, threat, budget and question.

    A sample survives if no attack broke it; samples that not every attack has met yet are left out. `cell` is
    empty, passes and seconds are those of all attacks together. `records`, a table or pieces of one, need `SCORED` and
    `sample_id`.
    """
    found = scored(merged(_pieces(records), _offsets(thresholds)), stds, thresholds)
    return [one for one in found if one.n or one.errors or one.excluded]


def _pieces(records: Records) -> Iterable[pa.Table]:
    return [records] if isinstance(records, pa.Table) else records


def _offsets(thresholds: Thresholds | None) -> dict[str, float | None]:
    return {name: one.offset for name, one in (thresholds or {}).items() if one is not None}


def scored(tallies: Tallies, stds: Stds | None = None, thresholds: Thresholds | None = None) -> list[Result]:
    """Return one result per tally, in their order."""
    return [_result(one, stds or {}, thresholds or {}) for one in tallies.found]


def _result(tally: Tally, stds: Stds, thresholds: Thresholds) -> Result:
    constant, counts = tally.constants, tally.counts
    shares = _shares(counts, tally.beyond[1], tally.beyond[5])
    if str(constant["data"]).endswith(PREDICTED_LABELS):
        # a model agrees with itself: that is no accuracy
        shares.update(dict.fromkeys(("clean_accuracy", "clean_low", "clean_high"), math.nan))
    refused = rejection(tally, thresholds.get(constant["model"]))
    if refused is not None:
        refused = refused.asked_for(constant["goal"], math.isnan(shares["clean_accuracy"]))
    budget = Budget(constant["eps_written"], constant["eps"], constant["unit"])
    return Result(
        **constant,
        **shares,
        **tally.spent,
        grey_levels=_grey_levels(budget, stds.get(constant["model"])),
        median_size=tally.median_size,
        verdict=None,
        rejection=refused,
    )


def _shares(counts: Mapping[str, int], beyond1: float, beyond5: float) -> dict[str, Any]:
    survived, broken = sum(counts[status] for status in UNBROKEN), counts[BROKEN]
    correct = survived + broken
    n = correct + counts[CLEAN_WRONG] + counts[CLEAN_REJECTED]
    low, high = wilson(survived, n)
    clean_low, clean_high = wilson(correct, n)
    return {
        "n": n, "clean_accuracy": share(correct, n), "clean_low": clean_low, "clean_high": clean_high,
        "robust_accuracy": share(survived, n), "robust_low": low, "robust_high": high,
        "attack_success": share(broken, correct), "top1_error": share(beyond1, n), "top5_error": share(beyond5, n),
        "errors": counts[ERROR], "excluded": counts[EXCLUDED], "broken": broken, "clean_correct": correct,
        "survived": survived, "certified": counts[CERTIFIED],
    }  # fmt: skip


def _grey_levels(budget: Budget, std: Sequence[float] | None) -> float:
    if budget.unit == NORMALIZED and std is None:
        return math.nan
    return budget.grey_levels(std)


__all__ = ["COUNTED", "SCORED", "WORST_CASE", "Result", "results", "scored", "worst_case"]
