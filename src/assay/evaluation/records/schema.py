"""Records: one row per sample and budget, with everything a reader needs to recount any number."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from assay.core.errors import BadInput, did_you_mean
from assay.evaluation.planned import SCHEMA_VERSION

CLEAN_WRONG = "clean_wrong"
BROKEN = "broken"
SURVIVED = "survived"
REJECTED = "rejected"
ERROR = "error"
EXCLUDED = "excluded"
CLEAN_REJECTED = "clean_rejected"
CERTIFIED = "certified"
STATUSES = (CLEAN_WRONG, BROKEN, SURVIVED, REJECTED, ERROR, EXCLUDED, CLEAN_REJECTED, CERTIFIED)

WRONG_BEFORE = (CLEAN_WRONG, CLEAN_REJECTED)
"""The statuses of what was no right answer before any attack: a refused image is none."""

UNBROKEN = (SURVIVED, REJECTED, CERTIFIED)
"""The statuses of what was right before, and is right or refused under attack, or proved to be."""

UNCOUNTED = (ERROR, EXCLUDED)
"""The statuses that are in no number: what could not be evaluated, and what the goal's target is the label of."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What happened to one sample at one budget.

    Ranks are those of the true label (1 is the top); `target_rank` is that of the goal's target, where it has one.
    `stage` is the part of a composed attack that broke the sample, as its number and name.
    Sizes are in the row's `unit`; that in the threat's norm is at most `eps` where the perturbation was judged to be
    inside the budget. A sample that a bound had `certified` was not attacked there: its prediction is that of the image
    itself. Passes shared by a sweep are booked on the first budget's row; `seconds` is the
    chunk's wall time divided evenly. `from_eps` is the smaller budget that a break was inherited from. `image_digest`
    names the pixels that were attacked, as they were read. `form` is the precision and layout in which the model was
    asked ("float32, channels last"), `edges` where gradients at the edges of the box were taken that the model itself
    does not give: "at the bounds" of what it cuts, or "a hair inside". Records made before these were kept have none.
    `size_ycbcr` is told of threats in YCbCr alone, whose components it depends on, `size_patch` of patches alone.

    Of a model that may refuse an image, predictions, confidences and ranks are those of its classes alone;
    `clean_refused` and `refused` say whether it refuses the image and the attacked one, `clean_excess` and `excess` by
    how much its refusal leads the highest class, in logits (below 0 where it accepts). Other models have none of them.
    """

    schema: int
    cell: str
    model: str
    data: str
    attack: str
    threat: str
    eps: float
    eps_written: str
    unit: str
    question: str
    goal: str
    seed: int
    chunk: int
    sample_id: str
    label: int
    target: int | None
    clean_prediction: int | None
    clean_confidence: float | None
    clean_rank: int | None
    prediction: int | None
    confidence: float | None
    rank: int | None
    target_rank: int | None
    status: str
    stage: str | None
    size_linf: float | None
    size_l2: float | None
    size_l1: float | None
    size_l0: float | None
    forwards: int
    backwards: int
    queries: int
    steps: int
    seconds: float
    from_eps: float | None
    error: str | None
    image_digest: str | None = None
    form: str | None = None
    edges: str | None = None
    clean_refused: bool | None = None
    refused: bool | None = None
    clean_excess: float | None = None
    excess: float | None = None
    size_ycbcr: float | None = None
    size_patch: float | None = None


ADDED = (
    "image_digest",
    "form",
    "edges",
    "clean_refused",
    "refused",
    "clean_excess",
    "excess",
    "size_ycbcr",
    "size_patch",
)
"""Columns that came later: shards without them are read all the same, with nulls."""


def stage_label(number: int, name: str) -> str:
    """Return how a record names stage `number` (from 1) of a composed attack."""
    return f"{number} {name}"


_NARROW = {
    "schema": pa.int16(),
    "chunk": pa.int32(),
    "clean_rank": pa.int32(),
    "rank": pa.int32(),
    "target_rank": pa.int32(),
    "clean_confidence": pa.float32(),
    "confidence": pa.float32(),
    "size_linf": pa.float32(),
    "size_l2": pa.float32(),
    "size_l1": pa.float32(),
    "size_l0": pa.float32(),
    "clean_excess": pa.float32(),
    "excess": pa.float32(),
    "size_ycbcr": pa.float32(),
    "size_patch": pa.float32(),
}
_WIDE = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}

_HINTS = typing.get_type_hints(Record)


def _kind(name: str) -> tuple[type, bool]:
    """Return the plain type of a column, and whether it may be missing."""
    hint = _HINTS[name]
    if isinstance(hint, types.UnionType):
        return next(one for one in hint.__args__ if one is not types.NoneType), True
    return hint, False


def _field(name: str) -> Any:
    kind, optional = _kind(name)
    return pa.field(name, _NARROW.get(name, _WIDE[kind]), nullable=optional)


SCHEMA = pa.schema([_field(field.name) for field in dataclasses.fields(Record)])


def to_dict(record: Record) -> dict[str, Any]:
    """Return a record as plain values."""
    return dataclasses.asdict(record)


def from_dict(plain: Mapping[str, Any]) -> Record:
    """Return the record that plain values describe; `from_dict(to_dict(r)) == r`.

    Raises `BadInput` for a missing or unknown column, a value of the wrong kind, or another schema number.
    """
    for name in plain:
        if name not in _HINTS:
            raise BadInput(f"A record has no column {name!r}.{did_you_mean(str(name), _HINTS)}")
    missing = [name for name in _HINTS if name not in plain and name not in ADDED]
    if missing:
        raise BadInput(f"The record lacks {', '.join(missing)}.")
    if plain["schema"] != SCHEMA_VERSION:
        raise BadInput(f"The record has schema {plain['schema']!r}, this version reads {SCHEMA_VERSION}. Update assay.")
    return Record(**{name: _checked(name, plain.get(name)) for name in _HINTS})


def _checked(name: str, value: Any) -> Any:
    kind, optional = _kind(name)
    if value is None and optional:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = f"{kind.__name__} or nothing" if optional else kind.__name__
        raise BadInput(f"The record's {name} is {value!r}, expected {expected}.")
    if name == "status" and value not in STATUSES:
        raise BadInput(f"The record's status is {value!r}, expected one of {', '.join(STATUSES)}.")
    return value


def to_table(records: list[Record]) -> pa.Table:
    """Return records as a table of the schema."""
    return pa.Table.from_pylist([to_dict(record) for record in records], schema=SCHEMA)


def from_table(table: pa.Table) -> list[Record]:
    """Return the records of a table, row by row: for looking at some, not for counting many."""
    return [from_dict(row) for row in table.to_pylist()]
