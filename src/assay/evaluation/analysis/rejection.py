"""The numbers of models that may refuse an image, beside their robust accuracy with rejection."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.schema import BROKEN, CERTIFIED, CLEAN_REJECTED, CLEAN_WRONG, REJECTED, SURVIVED, UNBROKEN
from assay.evaluation.study.goal_words import STRICT
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
        """Return those of a table; None where it does not say. `offsets` are by model."""
        if "clean_refused" not in records.column_names:
            return None
        label, target = (_numbers(records, name) for name in ("label", "target"))
        prediction = _numbers(records, "prediction")
        wrong = np.where(np.isnan(target), prediction != label, prediction == target) & ~np.isnan(prediction)
        attacked = _each(records, "status", lambda status: status in _ATTACKED)
        fooled = attacked & wrong & _inside(records)
        known_offsets = {name: one for name, one in offsets.items() if one is not None}
        offset = _each(records, "model", lambda name: known_offsets.get(str(name), np.nan))
        # as the model itself decides, where this is its own threshold
        refused = np.where(offset == 0, _numbers(records, "refused") == 1, _numbers(records, "excess") > offset)
        known = records["clean_refused"].is_valid().to_numpy()
        return Refusals(known, _numbers(records, "clean_prediction") == label, fooled, fooled & ~refused)

    def taken(self, keep: Array) -> Refusals:
        """Return the entries where `keep`."""
        return Refusals(*(getattr(self, field.name)[keep] for field in dataclasses.fields(self)))


class Counted(Protocol):
    """What is counted of the rows of one number; see `Tally`."""

    may_refuse: bool
    right_refused: int
    fooled: int
    passed: int

    @property
    def counts(self) -> dict[str, int]:
        """The rows by status."""


def rejection(counted: Counted, threshold: FrozenThreshold | None) -> Rejection | None:
    """Return the numbers of one group of rows; None where its model refuses nothing."""
    if not counted.may_refuse:
        return None
    counts = counted.counts
    survived, refused = counts[SURVIVED] + counts[CERTIFIED], counts[CLEAN_REJECTED]
    correct = survived + counts[BROKEN] + counts[REJECTED]
    n = correct + counts[CLEAN_WRONG] + refused
    right_refused, fooled, passed = counted.right_refused, counted.fooled, counted.passed
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
    norms = _each(records, "threat", lambda threat: str(threat).split()[0])
    size = np.full(records.num_rows, np.nan)
    for name in np.unique(norms):
        size = np.where(norms == name, _numbers(records, f"size_{name}"), size)
    inside: Array = size <= records["eps"].to_numpy()
    return inside


def _each(records: pa.Table, name: str, of: Callable[[Any], Any]) -> Array:
    # what is true of each row by a column of few texts
    column = records[name]
    column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    column = column.unify_dictionaries()
    chunks: Any = column.chunks
    values = np.array([of(value) for value in chunks[0].dictionary.to_pylist()])
    each: Array = values[np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in chunks])]
    return each


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
