"""The numbers of models that may refuse an image, beside their robust accuracy with rejection."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.schema import BROKEN, CERTIFIED, CLEAN_REJECTED, CLEAN_WRONG, REJECTED, SURVIVED, UNBROKEN
from assay.evaluation.study.goals import STRICT
from assay.statistics import clopper_pearson, wilson

Array = NDArray[Any]

REFUSAL_COLUMNS = ("label", "target", "clean_prediction", "clean_refused", "prediction", "refused", "excess")
"""The columns that these numbers are counted from, beside those of every score."""

_ATTACKED = (BROKEN, *UNBROKEN)


@dataclasses.dataclass(frozen=True)
class FrozenThreshold:
    """What is known of a detector's threshold: chosen on `n` clean images, of which `above` have scores above it.

    `offset` is the excess above which an image would be refused, were the threshold that of a false-positive rate of
    5 % on those images; None where that is not known.
    """

    n: int
    above: int
    offset: float | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> FrozenThreshold | None:
        """Return it from what a manifest says of a model; None for one whose threshold was not chosen on images."""
        told = facts.get("threshold")
        return None if told is None else cls(int(told["n"]), int(told["above"]), told.get("offset_at_5_fpr"))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the true false-positive rate (Clopper and Pearson)."""
        return clopper_pearson(self.above, self.n)


@dataclasses.dataclass(frozen=True)
class Rejection:
    """What is told of a model that may refuse an image, beside its robust accuracy with rejection.

    `strict_robust_accuracy` counts a refused attacked image as lost. From attacks that do not want refusals it is at
    most this, an upper bound; it is measured where the goal is `untargeted strict`. Of the clean images `coverage` are
    accepted, of those `selective_accuracy` are right; `fpr` are refused, and `fpr_correct` of those that the classifier
    alone gets right. `fpr_low` and `fpr_high` are the 95 % interval of the frozen threshold's true rate by the number
    of images it was chosen on. Of the attacked images that fool the classifier alone `tpr_at_5_fpr` are refused at the
    threshold of a false-positive rate of 5 %; `sr_at_5_fpr` of all attacked images fool it and are accepted there. NaN
    is what is not known. `rejected` attacked images are refused and not broken, `clean_rejected` are refused as they
    are. The attacked images are those right and accepted before.
    """

    strict_robust_accuracy: float
    strict_low: float
    strict_high: float
    coverage: float
    selective_accuracy: float
    fpr: float
    fpr_correct: float
    fpr_low: float
    fpr_high: float
    tpr_at_5_fpr: float
    sr_at_5_fpr: float
    rejected: int
    clean_rejected: int

    def asked_for(self, goal: str, predicted: bool) -> Rejection:
        """Return it without what its records cannot say.

        What does not reach a target, or stays in the top k, may be wrong all the same: that is no strict accuracy. A
        model agrees with itself: where labels are `predicted`, there is no selective accuracy.
        """
        unknown = [] if goal in ("untargeted", STRICT) else ["strict_robust_accuracy", "strict_low", "strict_high"]
        unknown += ["selective_accuracy"] if predicted else []
        changes: dict[str, Any] = dict.fromkeys(unknown, math.nan)
        return dataclasses.replace(self, **changes)


REJECTION_FIELDS = tuple(field.name for field in dataclasses.fields(Rejection))


@dataclasses.dataclass(frozen=True)
class Refusals:
    """What is counted, one entry per row: `known` where a model may refuse, `right` where its classes alone were right.

    `fooled` are rows whose attacked image fools the classes alone, `passed` those that are also accepted at a
    false-positive rate of 5 %.
    """

    known: Array
    right: Array
    fooled: Array
    passed: Array

    @staticmethod
    def of(records: pa.Table, offsets: Mapping[str, float | None]) -> Refusals | None:
        """Return those of a table; None where no model of it may refuse an image. `offsets` are by model."""
        if "clean_refused" not in records.column_names or records["clean_refused"].null_count == records.num_rows:
            return None
        label, target = (_numbers(records, name) for name in ("label", "target"))
        prediction = _numbers(records, "prediction")
        wrong = np.where(np.isnan(target), prediction != label, prediction == target) & ~np.isnan(prediction)
        attacked = pc.is_in(records["status"], value_set=pa.array(_ATTACKED)).to_numpy()
        fooled = attacked & wrong & _inside(records)
        known_offsets = {name: one for name, one in offsets.items() if one is not None}
        offset = np.array([known_offsets.get(str(name), np.nan) for name in records["model"].to_pylist()])
        # as the model itself decides, where this is its own threshold
        refused = np.where(offset == 0, _numbers(records, "refused") == 1, _numbers(records, "excess") > offset)
        known = records["clean_refused"].is_valid().to_numpy()
        return Refusals(known, _numbers(records, "clean_prediction") == label, fooled, fooled & ~refused)

    def merged(self, pair: Array, first: Array) -> Refusals:
        """Return one entry per pair of group and sample: true where it is true of any attack on it."""

        def anywhere(values: Array) -> Array:
            return np.bincount(pair, values, len(first)) > 0

        return Refusals(*(anywhere(getattr(self, field.name)) for field in dataclasses.fields(self)))

    def taken(self, keep: Array) -> Refusals:
        """Return the entries where `keep`."""
        return Refusals(*(getattr(self, field.name)[keep] for field in dataclasses.fields(self)))


def rejection(
    counts: Mapping[str, int], rows: Refusals, statuses: Sequence[str] | Array, threshold: FrozenThreshold | None
) -> Rejection | None:
    """Return the numbers of one group of rows; None where its model refuses nothing.

    `counts` are the rows by status, `statuses` the status of each.
    """
    if not bool(rows.known.any()):
        return None
    survived, refused = counts[SURVIVED] + counts[CERTIFIED], counts[CLEAN_REJECTED]
    correct = survived + counts[BROKEN] + counts[REJECTED]
    n = correct + counts[CLEAN_WRONG] + refused
    right_refused = int((rows.right & (np.asarray(statuses) == CLEAN_REJECTED)).sum())
    fooled, passed = int(rows.fooled.sum()), int(rows.passed.sum())
    asked = threshold is not None and threshold.offset is not None
    low, high = threshold.interval if threshold is not None else (math.nan, math.nan)
    strict_low, strict_high = wilson(survived, n)
    return Rejection(
        strict_robust_accuracy=share(survived, n),
        strict_low=strict_low,
        strict_high=strict_high,
        coverage=share(n - refused, n),
        selective_accuracy=share(correct, n - refused),
        fpr=share(refused, n),
        fpr_correct=share(right_refused, correct + right_refused),
        fpr_low=low,
        fpr_high=high,
        tpr_at_5_fpr=share(fooled - passed, fooled) if asked else math.nan,
        sr_at_5_fpr=share(passed, correct) if asked else math.nan,
        rejected=counts[REJECTED],
        clean_rejected=refused,
    )


def share(part: float, whole: int) -> float:
    """Return part / whole; NaN of nothing."""
    return part / whole if whole else math.nan


def _inside(records: pa.Table) -> Array:
    # sizes of what was judged to be inside are at most the budget
    norms = pc.utf8_split_whitespace(records["threat"], max_splits=1)
    norms = pc.list_element(norms, 0).to_numpy()
    size = np.full(records.num_rows, np.nan)
    for name in np.unique(norms):
        size = np.where(norms == name, _numbers(records, f"size_{name}"), size)
    inside: Array = size <= records["eps"].to_numpy()
    return inside


def _numbers(records: pa.Table, name: str) -> Array:
    # as float64: what is missing is NaN
    numbers: Array = pc.fill_null(
        pc.cast(pc.cast(records[name], _step(records, name)), pa.float64()), np.nan
    ).to_numpy()
    return numbers


def _step(records: pa.Table, name: str) -> Any:
    # a truth value becomes a real number by way of a whole one
    kind = records.schema.field(name).type
    return pa.int8() if pa.types.is_boolean(kind) else kind
