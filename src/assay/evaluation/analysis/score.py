"""From records to numbers: every share with its interval, every denominator a count that is shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.core.budget import NORMALIZED, Budget
from assay.core.norms import THREAT_NORMS
from assay.evaluation.analysis.rejection import FrozenThreshold, Refusals, Rejection, rejection, share
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.schema import (
    BROKEN,
    CERTIFIED,
    CLEAN_REJECTED,
    CLEAN_WRONG,
    ERROR,
    EXCLUDED,
    REJECTED,
    STATUSES,
    SURVIVED,
    UNBROKEN,
    UNCOUNTED,
)
from assay.evaluation.study.spec import PREDICTED_LABELS
from assay.statistics import wilson
from assay.wording import measure

Array = NDArray[Any]
Stds = Mapping[str, Sequence[float] | None]
Thresholds = Mapping[str, FrozenThreshold | None]

_CONSTANT = (
    "cell", "model", "data", "attack", "threat", "eps", "eps_written", "unit", "question", "goal", "seed",
)  # fmt: skip
_SPENT = ("forwards", "backwards", "queries", "seconds")
_SIZES = tuple(f"size_{name}" for name in THREAT_NORMS)
SCORED = (*_CONSTANT, "status", "rank", *_SIZES, *_SPENT)
"""The columns that scoring reads; of models that may refuse an image it reads `REFUSAL_COLUMNS` too."""

WORST_CASE = "worst case"
_CODE = {status: code for code, status in enumerate(STATUSES)}
# of several attacks on a sample the first of these holds; an unknown outcome is not a survival
_WORST = (EXCLUDED, CLEAN_WRONG, CLEAN_REJECTED, BROKEN, ERROR, REJECTED, SURVIVED, CERTIFIED)
_UNCOUNTED = [_CODE[status] for status in UNCOUNTED]


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


def results(records: pa.Table, stds: Stds | None = None, thresholds: Thresholds | None = None) -> list[Result]:
    """Return one result per cell and budget, in the order of the records.

    `records` needs the columns `SCORED`. `stds` holds the normalisation of each model, for budgets in its units,
    `thresholds` those of models that refuse images.
    """
    if not records.num_rows:
        return []
    group = _groups(records, ("cell", "eps"))
    rows = _Rows.of(records, group, thresholds or {})
    return _scored(rows, _constants(records, group), stds or {}, thresholds or {})


def worst_case(records: pa.Table, stds: Stds | None = None, thresholds: Thresholds | None = None) -> list[Result]:
    """Return the per-sample worst case over the attacks on one model, data set, threat, budget and question.

    A sample survives if no attack broke it; samples that not every attack has met yet are left out. `cell` is
    empty, passes and seconds are those of all attacks together. `records` needs `SCORED` and `sample_id`.
    """
    if not records.num_rows:
        return []
    group = _groups(records, ("model", "data", "threat", "unit", "eps", "question", "goal"))
    cells = _codes(records, "cell")
    met = np.unique(np.stack([group, cells]), axis=1)[0]
    attacks = np.bincount(met)
    pairs, first, pair, times = np.unique(
        group * records.num_rows + _codes(records, "sample_id"), return_index=True, return_inverse=True,
        return_counts=True,
    )  # fmt: skip
    rows = _Rows.of(records, group, thresholds or {})
    complete = times == attacks[pairs // records.num_rows]
    constants = [
        {**one, "cell": "", "attack": f"{WORST_CASE} of {count}" if count > 1 else one["attack"]}
        for one, count in zip(_constants(records, group), attacks, strict=True)
    ]
    found = _scored(rows.merged(pair, first).taken(complete), constants, stds or {}, thresholds or {})
    return [one for one in found if one.n or one.errors or one.excluded]


@dataclasses.dataclass(frozen=True)
class _Rows:
    """What is counted, one entry per row; `group` says which result a row belongs to."""

    group: Array
    status: Array
    rank: Array
    sizes: dict[str, Array]
    spent: dict[str, Array]
    refusals: Refusals | None = None

    @staticmethod
    def of(records: pa.Table, group: Array, thresholds: Thresholds) -> _Rows:
        """Return the rows of a table."""
        status = pc.index_in(records["status"], pa.array(STATUSES))
        return _Rows(
            group,
            _numpy(status),
            _numpy(pc.fill_null(records["rank"], 0)),
            {name: _numpy(pc.fill_null(records[name], math.nan)) for name in _SIZES},
            {name: _numpy(records[name]) for name in _SPENT},
            Refusals.of(records, {name: one.offset for name, one in thresholds.items() if one is not None}),
        )

    def merged(self, pair: Array, first: Array) -> _Rows:
        """Return one row per pair of group and sample: the worst outcome, the smallest success, all costs."""
        severity = np.array([_WORST.index(status) for status in STATUSES])[self.status]
        worst = np.full(len(first), len(_WORST))
        np.minimum.at(worst, pair, severity)
        rank = np.zeros(len(first), self.rank.dtype)
        np.maximum.at(rank, pair, self.rank)
        sizes = {}
        for name, values in self.sizes.items():
            smallest = np.full(len(first), np.inf, values.dtype)
            np.fmin.at(smallest, pair, np.where(self.status == _CODE[BROKEN], values, np.inf))
            sizes[name] = smallest
        spent = {name: np.bincount(pair, values, len(first)) for name, values in self.spent.items()}
        codes = np.array([_CODE[status] for status in _WORST])
        refusals = None if self.refusals is None else self.refusals.merged(pair, first)
        return _Rows(self.group[first], codes[worst], rank, sizes, spent, refusals)

    def taken(self, keep: Array) -> _Rows:
        """Return the rows where `keep`."""
        return _Rows(
            self.group[keep],
            self.status[keep],
            self.rank[keep],
            {name: values[keep] for name, values in self.sizes.items()},
            {name: values[keep] for name, values in self.spent.items()},
            None if self.refusals is None else self.refusals.taken(keep),
        )


def _scored(rows: _Rows, constants: list[dict[str, Any]], stds: Stds, thresholds: Thresholds) -> list[Result]:
    count = len(constants)
    tally = np.bincount(rows.group * len(STATUSES) + rows.status, minlength=count * len(STATUSES))
    tally = tally.reshape(count, len(STATUSES))
    valid = ~np.isin(rows.status, _UNCOUNTED)
    beyond = {k: np.bincount(rows.group, valid & (rows.rank > k), count) for k in (1, 5)}
    spent = {name: np.bincount(rows.group, values, count) for name, values in rows.spent.items()}
    broken = rows.status == _CODE[BROKEN]
    found = []
    for at, constant in enumerate(constants):
        norm = constant["threat"].split()[0]
        sizes = rows.sizes[f"size_{norm}"][broken & (rows.group == at)]
        counts = dict(zip(STATUSES, tally[at].tolist(), strict=True))
        shares = _shares(counts, float(beyond[1][at]), float(beyond[5][at]))
        if str(constant["data"]).endswith(PREDICTED_LABELS):
            # a model agrees with itself: that is no accuracy
            shares.update(dict.fromkeys(("clean_accuracy", "clean_low", "clean_high"), math.nan))
        refused = None
        if rows.refusals is not None:
            mine = rows.group == at
            statuses = np.array(STATUSES)[rows.status[mine]]
            refused = rejection(counts, rows.refusals.taken(mine), statuses, thresholds.get(constant["model"]))
        if refused is not None:
            refused = refused.asked_for(constant["goal"], math.isnan(shares["clean_accuracy"]))
        budget = Budget(constant["eps_written"], constant["eps"], constant["unit"])
        found.append(
            Result(
                **constant,
                **shares,
                grey_levels=_grey_levels(budget, stds.get(constant["model"])),
                median_size=float(np.median(sizes)) if len(sizes) else None,
                forwards=int(spent["forwards"][at]),
                backwards=int(spent["backwards"][at]),
                queries=int(spent["queries"][at]),
                seconds=float(spent["seconds"][at]),
                verdict=None,
                rejection=refused,
            )
        )
    return found


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


def _groups(records: pa.Table, names: Sequence[str]) -> Array:
    """Return a number per row that is equal where these columns are, counted in order of appearance."""
    whole = np.zeros(records.num_rows, np.int64)
    for name in names:
        codes = _codes(records, name)
        # renumbered each time, so that many columns cannot overflow
        whole = np.unique(whole * (int(codes.max()) + 1) + codes, return_inverse=True)[1]
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[inverse]


def _codes(records: pa.Table, name: str) -> Array:
    column = records[name]
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries() if column.num_chunks > 1 else column
    chunks: Any = column.chunks
    return np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in chunks]).astype(np.int64)


def _constants(records: pa.Table, group: Array) -> list[dict[str, Any]]:
    first: Any = pa.array(np.unique(group, return_index=True)[1])
    return [dict(row) for row in records.select(list(_CONSTANT)).take(first).to_pylist()]


def _numpy(column: Any) -> Array:
    array: Array = column.to_numpy()
    return array
