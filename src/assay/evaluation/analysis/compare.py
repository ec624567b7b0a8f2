"""Comparisons on the same samples, and what aggregates hide: classes, confusions, the smallest budget per sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from assay.core.errors import BadInput
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.arrow import make_table
from assay.evaluation.records.schema import BROKEN, EXCLUDED, UNBROKEN, UNCOUNTED, WRONG_BEFORE
from assay.statistics import mcnemar_p, wilson


@dataclasses.dataclass(frozen=True)
class Paired:
    """Two runs on the same `n` samples: how many survived in both, in one alone, in neither; exact McNemar p-value."""

    n: int
    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


def mcnemar(a: pa.Table, b: pa.Table) -> Paired:
    """Compare the survivors of two sets of records, each of one cell at one budget, sample by sample.

    An attacked image that the model refuses counts among them, a clean one does not.
    Samples that either side left out or could not evaluate are in no number. Needs `sample_id` and `status`. Raises
    `BadInput` for a sample that occurs twice on a side, and when the two sides share no sample.
    """
    sides = [_outcomes(side, name) for side, name in ((a, "a"), (b, "b"))]
    joined = sides[0].join(sides[1], "sample_id", join_type="inner", left_suffix="_a", right_suffix="_b")
    if not joined.num_rows:
        raise BadInput("The two sets of records share no sample. Compare runs on the same data and selection.")
    first, second = joined["survived_a"], joined["survived_b"]
    both = pc.sum(pc.and_(first, second)).as_py()
    only_a, only_b = pc.sum(first).as_py() - both, pc.sum(second).as_py() - both
    n = joined.num_rows
    return Paired(n, both, only_a, only_b, n - both - only_a - only_b, mcnemar_p(only_a, only_b))


def _outcomes(records: pa.Table, name: str) -> pa.Table:
    records = _counted(records)
    if pc.count_distinct(records["sample_id"]).as_py() != records.num_rows:
        raise BadInput(f"The records {name} hold a sample more than once. Give those of one cell at one budget.")
    survived = _is_in(records, UNBROKEN)
    table: pa.Table = make_table({"sample_id": records["sample_id"].cast(pa.string()), "survived": survived})
    return table


def _counted(records: pa.Table) -> pa.Table:
    return records.filter(pc.invert(_is_in(records, UNCOUNTED)))


def _is_in(records: pa.Table, statuses: Sequence[str]) -> Any:
    return pc.is_in(records["status"], value_set=pa.array(statuses, pa.string()))


@dataclasses.dataclass(frozen=True)
class ClassResult:
    """The numbers of one class in one cell at one budget; shares as in `Result`, intervals Wilson's."""

    cell: str
    eps_written: str
    label: int
    n: int
    clean_correct: int
    survived: int
    robust_low: float
    robust_high: float


def per_class(records: pa.Table) -> list[ClassResult]:
    """Return one result per cell, budget and class. Needs `cell eps eps_written label status`."""
    valid = _counted(records)
    counted: pa.Table = make_table({
        **{name: valid[name] for name in ("cell", "eps", "eps_written", "label")},
        "survived": pc.cast(_is_in(valid, UNBROKEN), pa.int64()),
        "right": pc.cast(pc.invert(_is_in(valid, WRONG_BEFORE)), pa.int64()),
    })  # fmt: skip
    table = counted.group_by(["cell", "eps", "eps_written", "label"], use_threads=False).aggregate(
        [("survived", "sum"), ("right", "sum"), ("right", "count")]
    )
    return [
        ClassResult(
            row["cell"], row["eps_written"], row["label"], row["right_count"], row["right_sum"], row["survived_sum"],
            *wilson(row["survived_sum"], row["right_count"]),
        )
        for row in _sorted(table, ["cell", "eps", "label"]).to_pylist()
    ]  # fmt: skip


def confusion(records: pa.Table) -> pa.Table:
    """Return what broken samples became: `cell eps label prediction count`. Needs these and `status`.

    `prediction` is null where a refusal broke them, of records with the column `refused`.
    """
    broken = records.filter(pc.equal(records["status"], BROKEN))
    if "refused" in broken.column_names:
        kept = pc.if_else(pc.fill_null(broken["refused"], False), pa.scalar(None, pa.int64()), broken["prediction"])
        broken = broken.set_column(broken.column_names.index("prediction"), "prediction", kept)
    keys = ["cell", "eps", "label", "prediction"]
    counted = broken.group_by(keys, use_threads=False).aggregate([([], "count_all")])
    return _sorted(counted.rename_columns([*keys, "count"]), keys)


def _sorted(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    return table.sort_by([(key, "ascending") for key in keys])


def minimal_budgets(records: pa.Table) -> pa.Table:
    """Return the smallest budget that broke each sample: `cell sample_id eps`.

    0 for a sample that is wrong without any change, null for one that no budget broke; those that the goal leaves out
    are left out. Needs `cell sample_id eps status`.
    """
    records = records.filter(pc.not_equal(records["status"], EXCLUDED))
    wrong, broken = _is_in(records, WRONG_BEFORE), pc.equal(records["status"], BROKEN)
    reached = pc.if_else(wrong, 0.0, pc.if_else(broken, records["eps"], pa.scalar(None, pa.float64())))
    table: pa.Table = make_table({"cell": records["cell"], "sample_id": records["sample_id"], "eps": reached})
    least = table.group_by(["cell", "sample_id"], use_threads=False).aggregate([("eps", "min")])
    return least.rename_columns(["cell", "sample_id", "eps"])
