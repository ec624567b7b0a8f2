from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from assay.core.errors import AssayError
from assay.evaluation.executors.base import Failed
from assay.evaluation.executors.row import NOWHERE, Place, Row

A, B, A2 = Place("1", "here"), Place("2", "there"), Place("1", "here")
UNITS: list[Any] = [SimpleNamespace(cell=SimpleNamespace(digest="d"), chunk=k) for k in range(8)]


def row(retries: int = 2, log: list[str] | None = None, units: int = 8) -> Row:
    return Row(UNITS[:units], retries, ([] if log is None else log).append)


def raised(at: int, why: str = "ValueError: no") -> Failed:
    return Failed(UNITS[at], why, details="Traceback …")


def test_units_leave_in_order_and_a_lost_one_comes_first_again() -> None:
    log: list[str] = []
    one = row(log=log)
    assert [one.take(A), one.take(B)] == [0, 1] and len(one) == 6
    assert one.died(0, "killed", " on node here") is None
    assert [one.take(B), one.take(A)] == [0, 2]
    assert log == ["cell d chunk 0 lost its worker on node here: killed"]


def test_a_unit_that_kills_three_workers_is_given_up() -> None:
    one = row()
    for _ in range(2):
        assert one.take(A) == 0
        assert one.died(0, "killed", "") is None
    assert one.take(A) == 0
    failed = one.died(0, "killed", "")
    assert failed is not None and failed.died and failed.unit is UNITS[0]
    assert failed.reason == "The worker process died (killed), at each of 3 tries."
    assert one.take(A) == 1, "it does not come again"


def test_what_fails_at_two_places_has_failed() -> None:
    one = row()
    assert one.take(A) == 0
    assert one.failed(0, A, raised(0)) is None
    # not at the same place, by another worker there
    assert one.take(A2) == 1
    assert one.take(B) == 0
    assert one.failed(0, B, raised(0, "ValueError: again")) == raised(0, "ValueError: again")
    assert one.take(B) == 2


def test_what_fails_at_one_place_and_not_at_another_is_done() -> None:
    log: list[str] = []
    one = row(log=log)
    assert one.take(A) == 0
    one.failed(0, A, raised(0))
    assert one.take(B) == 0
    one.done(0, B)
    assert log == ["cell d chunk 0 failed on node here, and not on node there: ValueError: no", "Traceback …"]


def test_a_place_that_fails_what_others_do_ends_the_run_by_its_name() -> None:
    one = row()
    for at in range(3):
        assert one.take(A) == at
        one.failed(at, A, raised(at))
    # the last that failed comes first
    for at in (2, 1):
        assert one.take(B) == at
        one.done(at, B)
    assert one.take(B) == 0
    with pytest.raises(AssayError, match=r"On node here: 3 units .* that others did, the last with: ValueError: no"):
        one.done(0, B)


def test_a_place_that_does_units_between_is_trusted() -> None:
    one = row()
    for at in range(0, 8, 2):
        assert one.take(A) == at
        one.failed(at, A, raised(at))
        assert one.take(B) == at
        one.done(at, B)
        assert one.take(A) == at + 1
        one.done(at + 1, A)
    assert len(one) == 0


def test_a_unit_that_no_other_place_can_try_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    one = row()
    assert one.take(A) == 0
    one.failed(0, A, raised(0))
    assert list(one.stuck({A, B}, starting=False)) == []
    assert list(one.stuck({A}, starting=True)) == [], "another may come"
    assert list(one.stuck({A}, starting=False)) == [raised(0)]
    assert one.take(B) == 1
    one.failed(1, B, raised(1))
    monkeypatch.setattr("assay.evaluation.executors.row._STARTING", -1.0)
    assert list(one.stuck({B}, starting=True)) == [raised(1)], "it waited long enough"
    assert [one.take(A), one.take(NOWHERE)] == [2, 3]


def test_a_unit_that_another_place_has_taken_is_not_stuck() -> None:
    one = row()
    assert one.take(A) == 0
    one.failed(0, A, raised(0))
    assert one.take(B) == 0
    assert list(one.stuck({A}, starting=False)) == []
    one.done(0, B)
