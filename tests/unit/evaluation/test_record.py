from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import BadInput
from assay.evaluation.records.schema import SCHEMA, STATUSES, Record, from_dict, from_table, to_dict, to_table

INT64 = st.integers(-(2**63), 2**63 - 1)
COUNT = st.integers(0, 2**40)
SHARE = st.none() | st.floats(0, 1, width=32)
RANK = st.none() | st.integers(1, 2**31 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

RECORDS = st.builds(
    Record,
    schema=st.just(3), cell=TEXT, model=TEXT, data=TEXT, attack=TEXT, threat=TEXT,
    eps=st.floats(0, allow_nan=False), eps_written=TEXT, unit=TEXT, question=TEXT, goal=TEXT, seed=INT64,
    chunk=st.integers(0, 2**31 - 1), sample_id=TEXT, label=INT64, target=st.none() | INT64,
    clean_prediction=st.none() | INT64, clean_confidence=SHARE, clean_rank=RANK,
    prediction=st.none() | INT64, confidence=SHARE, rank=RANK, target_rank=RANK,
    status=st.sampled_from(STATUSES), stage=st.none() | TEXT,
    size_linf=SHARE, size_l2=SHARE, size_l1=SHARE, size_l0=SHARE,
    forwards=COUNT, backwards=COUNT, queries=COUNT, steps=COUNT, seconds=st.floats(0, 1e6),
    from_eps=st.none() | st.floats(0, allow_nan=False), error=st.none() | TEXT,
)  # fmt: skip


@given(RECORDS)
def test_a_record_reads_back_from_plain_values(record: Record) -> None:
    assert from_dict(to_dict(record)) == record


@given(st.lists(RECORDS, max_size=5))
def test_records_read_back_from_a_table(records: list[Record]) -> None:
    table = to_table(records)
    assert table.schema == SCHEMA and from_table(table) == records


ONE = Record(
    3, "c", "m", "d", "fgsm", "linf", 0.1, "0.1", "pixel", "worst_case", "untargeted", 0, 0, "d/1", 3, None, 3, 0.9, 1,
    3, 0.8, 1, None, "survived", None, 0.1, 1.0, 2.0, 3.0, 1, 1, 1, 1, 0.5, None, None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "fine"}, "status is 'fine', expected one of clean_wrong, broken"),
        ({"label": "3"}, "label is '3', expected int"),
        ({"label": None}, "label is None, expected int"),
        ({"rank": 1.5}, "rank is 1.5, expected int or nothing"),
        ({"forwards": True}, "forwards is True"),
        ({"schema": 1}, "schema 1, this version reads 3"),
        ({"epz": 1}, "no column 'epz'. Did you mean 'eps'?"),
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        from_dict({**to_dict(ONE), **change})
    assert said in str(caught.value)


def test_a_missing_column_is_named() -> None:
    plain = to_dict(ONE)
    del plain["eps"], plain["rank"]
    with pytest.raises(BadInput, match="lacks eps, rank"):
        from_dict(plain)


def test_whole_numbers_stand_for_floats() -> None:
    assert from_dict({**to_dict(ONE), "eps": 1}) == dataclasses.replace(ONE, eps=1.0)
    assert math.isinf(from_dict({**to_dict(ONE), "eps": math.inf}).eps)
