"""Records of certificates: one row per sample and budget, in Parquet of their own; readers join them to the attacks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from assay.certification import Certificates
    from assay.evaluation.cell import Unit

RIGHT, ABSTAINED, WRONG, FAILED = "right", "abstained", "wrong", "error"
ANSWERS = (RIGHT, ABSTAINED, WRONG, FAILED)
"""What the certified model says of the image itself; an image that could not be asked about is an error."""

_COLUMNS: dict[str, tuple[Any, bool]] = {
    "cell": (pa.string(), False),
    "model": (pa.string(), False),
    "data": (pa.string(), False),
    "certificate": (pa.string(), False),
    "threat": (pa.string(), False),
    "eps": (pa.float64(), False),
    "eps_written": (pa.string(), False),
    "unit": (pa.string(), False),
    "alpha": (pa.float64(), False),
    "chunk": (pa.int32(), False),
    "sample_id": (pa.string(), False),
    "label": (pa.int64(), False),
    "answer": (pa.string(), False),
    "prediction": (pa.int64(), True),
    "certified": (pa.bool_(), False),
    "lower": (pa.float64(), True),
    "radius": (pa.float64(), True),
    "forwards": (pa.int64(), False),
    "backwards": (pa.int64(), False),
    "queries": (pa.int64(), False),
    "seconds": (pa.float64(), False),
    "image_digest": (pa.string(), True),
    "error": (pa.string(), True),
}
CERTIFICATE_SCHEMA: pa.Schema = pa.schema(
    [pa.field(name, kind, nullable=optional) for name, (kind, optional) in _COLUMNS.items()]
)
"""The columns: `lower` is the bound of the label's lead in logits, `radius` in the threat's norm, where a method has
them; `alpha` the probability that a statement about an image is false, 0 for a proof. Passes are booked on the first
budget's row."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """The samples of a unit: their ids, labels, pixels' digests (None where unread), and what went wrong, by place."""

    ids: Sequence[str]
    labels: Sequence[int]
    digests: Sequence[str | None]
    errors: dict[int, str]


def certificate_table(
    unit: Unit, asked: Asked, at: Sequence[int], proved: Certificates | None, seconds: float, alpha: float
) -> pa.Table:
    """Return the records of a unit: `proved` is about the samples `at`; None where none could be read."""
    cell, n, b = unit.cell, len(asked.ids), len(unit.cell.budgets)
    assert cell.certificate is not None, "a cell that is attacked has other records"
    columns = _blank(n, b)
    if proved is not None:
        _fill(columns, np.asarray(at), proved, np.asarray(asked.labels))
    known = set(at) - set(asked.errors)
    failed = [asked.errors.get(j, "not looked at") if j not in known else None for j in range(n)]
    answers = [FAILED if failed[j] else columns["answer"][j] for j in range(n)]
    constant = {
        "cell": cell.digest, "model": cell.model.label, "data": cell.data.label, "threat": cell.threat.label,
        "certificate": cell.certificate.label, "unit": cell.unit, "alpha": alpha, "chunk": unit.chunk,
        "seconds": seconds / unit.rows,
    }  # fmt: skip
    plain: dict[str, Any] = {
        **{name: [value] * (n * b) for name, value in constant.items()},
        "eps": np.repeat([one.value for one in cell.budgets], n),
        "eps_written": np.repeat([one.written for one in cell.budgets], n),
        "sample_id": list(asked.ids) * b,
        "label": list(asked.labels) * b,
        "answer": answers * b,
        "prediction": [None if value < 0 else int(value) for value in columns["prediction"]] * b,
        "certified": columns["certified"].reshape(-1),
        "lower": _or_null(columns["lower"].reshape(-1)),
        "radius": _or_null(np.tile(columns["radius"], b)),
        "image_digest": list(asked.digests) * b,
        "error": failed * b,
        **{name: columns[name].reshape(-1) for name in ("forwards", "backwards", "queries")},
    }
    columns_of = {field.name: pa.array(plain[field.name], field.type) for field in CERTIFICATE_SCHEMA}
    return pa.table(columns_of, schema=CERTIFICATE_SCHEMA)


def all_unproved(unit: Unit, ids: Sequence[str], labels: Sequence[int], text: str) -> pa.Table:
    """Return the records of a unit that could not be done at all."""
    asked = Asked(ids, labels, [None] * len(ids), dict.fromkeys(range(len(ids)), text[:500]))
    return certificate_table(unit, asked, [], None, 0.0, 0.0)


def _blank(n: int, b: int) -> dict[str, Any]:
    return {
        "answer": np.full(n, WRONG, object),
        "prediction": np.full(n, -1),
        "certified": np.zeros((b, n), bool),
        "lower": np.full((b, n), math.nan),
        "radius": np.full(n, math.nan),
        **{name: np.zeros((b, n), np.int64) for name in ("forwards", "backwards", "queries")},
    }


def _fill(columns: dict[str, Any], at: Any, proved: Certificates, labels: Any) -> None:
    prediction = proved.prediction.cpu().numpy()
    columns["prediction"][at] = prediction
    columns["answer"][at] = np.where(prediction == labels[at], RIGHT, np.where(prediction < 0, ABSTAINED, WRONG))
    columns["certified"][:, at] = proved.certified.cpu().numpy() & (prediction == labels[at])
    if proved.lower is not None:
        columns["lower"][:, at] = proved.lower.cpu().numpy()
    if proved.radius is not None:
        columns["radius"][at] = proved.radius.cpu().numpy()
    for name, spent in proved.cost._asdict().items():
        columns[name][0, at] = spent.cpu().numpy()


def _or_null(values: Any) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]
