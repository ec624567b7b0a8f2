"""A unit's records while they are being filled: one array per column, never one object per row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.core.goal import Goal, Targeted, excluded, rank_of, scored
from assay.core.norms import NORMS, THREAT_NORMS
from assay.core.oracle import Cost
from assay.core.problem import Problem
from assay.core.result import told_size
from assay.core.signals import apart
from assay.core.sweep import Curve
from assay.core.tensors import flat
from assay.evaluation.cell import Unit
from assay.evaluation.planned import SCHEMA_VERSION
from assay.evaluation.records.schema import (
    BROKEN,
    CERTIFIED,
    CLEAN_REJECTED,
    CLEAN_WRONG,
    ERROR,
    EXCLUDED,
    REJECTED,
    SCHEMA,
    STATUSES,
    SURVIVED,
    WRONG_BEFORE,
    stage_label,
)
from assay.vocabulary import Question

Array = NDArray[Any]

# a missing whole number while a table is filled; in the table it is null, as NaN is
_NONE = -1
_CODE = {status: code for code, status in enumerate(STATUSES)}
_WRONG_BEFORE = [_CODE[status] for status in WRONG_BEFORE]
_SIZES = tuple(f"size_{name}" for name in THREAT_NORMS)
_COUNTS = ("forwards", "backwards", "queries", "steps")


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a unit with N samples and B budgets.

    `samples` are the columns that are one per sample (`[N]`), `rows` those that are one per sample and budget
    (`[B, N]`), `errors` the texts by budget and sample, `digests` the names of the pixels by
    sample, `told` what all rows say of how the model was asked. `stages` names the parts of a composed attack.
    `rejects`: the last of the model's logits means that an image is refused.
    """

    unit: Unit
    ids: Sequence[str]
    samples: dict[str, Array]
    rows: dict[str, Array]
    errors: dict[tuple[int, int], str]
    stages: Sequence[str] = ()
    digests: dict[int, str] = dataclasses.field(default_factory=dict)
    told: dict[str, str] = dataclasses.field(default_factory=dict)
    rejects: bool = False

    def fail(self, at: int, text: str, budgets: Sequence[int] | None = None) -> None:
        """Make sample `at` an error at the given budgets, or at all."""
        for budget in range(len(self.unit.cell.budgets)) if budgets is None else budgets:
            self.rows["status"][budget, at] = _CODE[ERROR]
            self.errors[budget, at] = text[:500]

    def look(self, at: Tensor, logits: Tensor, goal: Goal) -> None:
        """Fill in what the model says about the images themselves; until attacked, that is also the end."""
        where = _numpy(at)
        for name, value in _answer(logits, goal.y, self.rejects).items():
            self.samples[f"clean_{name}"][where] = value
            self.rows[name][:, where] = value
        self.rows["status"][:, where[self.samples["clean_refused"][where] == 1]] = _CODE[CLEAN_REJECTED]
        if isinstance(goal, Targeted):
            self.samples["target"][where] = _numpy(goal.t)
            self.rows["target_rank"][:, where] = _numpy(_known_rank(logits, goal.t, self.rejects))
            self.rows["status"][:, where[_numpy(excluded(goal))]] = _CODE[EXCLUDED]

    def bill(self, at: Tensor, cost: Cost) -> None:
        """Book the look at the images on the first budget."""
        where = _numpy(at)
        for name, spent in zip(("forwards", "backwards", "queries"), cost, strict=True):
            self.rows[name][0, where] += _numpy(spent)
        self.rows["steps"][0, where] += 1

    def tell(self, at: Tensor, problem: Problem, curve: Curve) -> None:
        """Fill in what a sweep found about the samples `at`, budget by budget."""
        composed = len(self.stages) > 1
        where, values = _numpy(at), [budget.value for budget in self.unit.cell.budgets]
        cumulative, known = self._cumulative, np.zeros(len(at), bool)
        # one call for all budgets: ten small operations on [N, K] cost more to start than to do
        logits = torch.cat([found.logits for found in curve.found])
        whole = _answer(logits, problem.goal.y.repeat(len(values)), self.rejects)
        if isinstance(problem.goal, Targeted):
            whole["target_rank"] = _numpy(_known_rank(logits, problem.goal.t.repeat(len(values)), self.rejects))
        for name, value in whole.items():
            self.rows[name][:, where] = value.reshape(len(values), -1)
        for budget, (found, origin) in enumerate(zip(curve.found, curve.origin, strict=True)):
            threat = problem.threat.at(values[budget])
            for name, size in sizes(found.x, problem).items():
                told = told_size(size, threat, torch.float32) if name == f"size_{threat.norm.name}" else size
                self.rows[name][budget, where] = _numpy(told)
            for name, spent in zip(_COUNTS, found.costs, strict=False):
                self.rows[name][budget, where] += _numpy(spent)
            by = _numpy(origin)
            inherited = (by >= 0) & (by != budget)
            self.rows["from_eps"][budget, where[inherited]] = np.array(values)[by[inherited]]
            refused = (self.rows["refused"][budget, where] == 1) & _numpy(threat.allows(found.size))
            # a smaller ball lies inside this one: what could be refused there can be here
            known = refused = refused | (known & cumulative)
            status = self.rows["status"][budget]
            left = np.where(refused, _CODE[REJECTED], _CODE[SURVIVED])
            outcome = np.where(_numpy(found.success), _CODE[BROKEN], left)
            status[where] = np.where(np.isin(status[where], _WRONG_BEFORE), status[where], outcome)
            if composed:
                broke = status[where] == _CODE[BROKEN]
                self.rows["stage"][budget, where[broke]] = _numpy(found.part)[broke]
        self._fail_unscored(where, curve)

    def certify(self, at: Tensor, first_open: Tensor) -> None:
        """Say that the samples `at` are certified at the budgets before `first_open` (int64 `[N]`)."""
        where, first = _numpy(at), _numpy(first_open)
        for budget in range(len(self.unit.cell.budgets)):
            self.rows["status"][budget, where[budget < first]] = _CODE[CERTIFIED]

    def _fail_unscored(self, where: Array, curve: Curve) -> None:
        # a sample is no survivor of an attack that asked about points the model had no answer to; where each budget
        # speaks for the smaller ones, of theirs too
        points = np.zeros(len(where), np.int64)
        for budget, found in enumerate(curve.found):
            points = points * self._cumulative + _numpy(found.unscored)
            status = self.rows["status"][budget, where]
            unbroken = np.isin(status, [_CODE[SURVIVED], _CODE[REJECTED]])
            unknown = (points > 0) & unbroken | (self.rows["prediction"][budget, where] == _NONE)
            for row in where[unknown]:
                self.fail(int(row), "The model returned NaN or infinite scores for the attacked image.", [budget])

    @property
    def _cumulative(self) -> bool:
        # whether each budget speaks for the smaller ones too
        return self.unit.cell.question == Question.WORST_CASE.value

    def table(self) -> pa.Table:
        """Return the records: all samples at the first budget, then all at the next."""
        cell, n, b = self.unit.cell, len(self.ids), len(self.unit.cell.budgets)
        constant = {
            "schema": SCHEMA_VERSION, "cell": cell.digest, "model": cell.model.label, "data": cell.data.label,
            "attack": cell.attack.label, "threat": cell.threat.label, "unit": cell.unit, "question": cell.question,
            "goal": cell.goal, "seed": cell.seed, "chunk": self.unit.chunk,
        }  # fmt: skip
        written: Any = pa.array([budget.written for budget in cell.budgets])
        statuses: Any = pa.array(STATUSES)
        stages: Any = pa.array([stage_label(*one) for one in enumerate(self.stages, 1)], pa.string())
        columns: dict[str, Any] = {
            **{name: pa.repeat(pa.scalar(value, SCHEMA.field(name).type), n * b) for name, value in constant.items()},
            **{name: _arrow(name, np.tile(values, b)) for name, values in self.samples.items()},
            **{
                name: _arrow(name, values.reshape(-1))
                for name, values in self.rows.items()
                if name not in ("status", "stage")
            },
            "eps": pa.array(np.repeat([budget.value for budget in cell.budgets], n)),
            "eps_written": written.take(pa.array(np.repeat(np.arange(b), n))),
            "sample_id": pa.concat_arrays([pa.array(self.ids, pa.string())] * b),
            "status": statuses.take(pa.array(self.rows["status"].reshape(-1))),
            "stage": stages.take(_index(self.rows["stage"])),
            "error": pa.array([self.errors.get((i, j)) for i in range(b) for j in range(n)], pa.string())
            if self.errors
            else pa.nulls(n * b, pa.string()),
            **{name: pa.array([self.told.get(name)] * (n * b), pa.string()) for name in ("form", "edges")},
            "image_digest": pa.concat_arrays([pa.array([self.digests.get(j) for j in range(n)], pa.string())] * b),
        }
        return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def blank(
    unit: Unit, ids: Sequence[str], labels: Sequence[int], stages: Sequence[str] = (), *, rejects: bool = False
) -> Columns:
    """Return the columns of a unit of which nothing is known but its samples and the parts of its attack.

    `rejects`: the last of the model's logits means that an image is refused.
    """
    shape = (len(unit.cell.budgets), len(ids))
    whole = {name: np.full(shape, _NONE, np.int64) for name in ("prediction", "rank", "target_rank")}
    whole["refused"] = np.full(shape, _NONE, np.int8)
    real = {name: np.full(shape, np.nan, np.float32) for name in ("confidence", "excess", *_SIZES)}
    spent = {name: np.zeros(shape, np.int64) for name in _COUNTS}
    rest: dict[str, Array] = {
        "status": np.full(shape, _CODE[CLEAN_WRONG], np.int8),
        "stage": np.full(shape, _NONE, np.int16),
        "seconds": np.zeros(shape),
        "from_eps": np.full(shape, np.nan),
    }
    samples: dict[str, Array] = {
        "label": np.array(labels, np.int64),
        **{name: np.full(shape[1], _NONE, np.int64) for name in ("target", "clean_prediction", "clean_rank")},
        "clean_refused": np.full(shape[1], _NONE, np.int8),
        **{name: np.full(shape[1], np.nan, np.float32) for name in ("clean_confidence", "clean_excess")},
    }
    return Columns(unit, ids, samples, {**whole, **real, **spent, **rest}, {}, stages, rejects=rejects)


def all_failed(unit: Unit, ids: Sequence[str], labels: Sequence[int], text: str) -> pa.Table:
    """Return the records of a unit that could not be done at all."""
    columns = blank(unit, ids, labels)
    for at in range(len(ids)):
        columns.fail(at, text)
    return columns.table()


def sizes(z: Tensor, problem: Problem) -> dict[str, Tensor]:
    """Return the size `[N]` of the change in every norm, in the unit of the budget, by the name of its column.

    Those of components and of patches are told of threats in them alone: the one depends on weights, and the other says
    of a change of the whole image how large the image is.
    """
    move = z - problem.x
    unit = flat(move / problem.threat.scale) if isinstance(problem.threat.scale, Tensor) else flat(move)
    found = {f"size_{name}": norm.size(unit) for name, norm in NORMS.items()}
    if problem.threat.norm.name not in NORMS:
        found[f"size_{problem.threat.norm.name}"] = problem.threat.size(z, problem.x)
    return found


def _answer(logits: Tensor, y: Tensor, rejects: bool) -> dict[str, Array]:
    known, none = scored(logits), torch.full_like(y, _NONE)
    seen = apart(logits, rejects)
    confidence, prediction = seen.logits.softmax(1).max(1)
    told = {
        "prediction": _numpy(torch.where(known, prediction, none)),
        "confidence": _numpy(confidence),
        "rank": _numpy(torch.where(known, rank_of(seen.logits, y), none)),
    }
    if seen.excess is not None:
        told["refused"] = _numpy(torch.where(known, (seen.excess > 0).to(y), none))
        told["excess"] = _numpy(torch.where(known, seen.excess, torch.nan))
    return told


def _known_rank(logits: Tensor, y: Tensor, rejects: bool) -> Tensor:
    return torch.where(scored(logits), rank_of(apart(logits, rejects).logits, y), _NONE)


def _index(values: Array) -> Any:
    flat = values.reshape(-1)
    return pa.array(flat, pa.int16(), mask=flat == _NONE)


def _arrow(name: str, values: Array) -> Any:
    kind: Any = SCHEMA.field(name).type
    if not SCHEMA.field(name).nullable:
        return pa.array(values, kind)
    if np.issubdtype(values.dtype, np.integer):
        return pa.array(values.astype(kind.to_pandas_dtype()), kind, mask=values == _NONE)
    return pa.array(values, kind, mask=np.isnan(values))


def _numpy(value: Tensor) -> Array:
    array: Array = value.detach().cpu().numpy()
    return array
