from __future__ import annotations

import pytest

from assay.evaluation.cost import Speed
from assay.evaluation.execution.progress import expected
from assay.evaluation.study.spec import Study
from assay.meter import Meter

FAST, SLOW = "fast", "slow"


def make(clock: list[float], fast: int = 10, slow: int = 2) -> Meter:
    """Return the meter of ten fast units (a second each) and two slow ones (20 s each), of which so many are left."""
    meter = Meter(lambda: clock[0])
    meter.expect(FAST, 10.0, float(fast))
    meter.expect(SLOW, 40.0, 20.0 * slow)
    return meter


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


def test_a_slow_model_weighs_more(clock: list[float]) -> None:
    told = make(clock)
    assert f"{told.share:.0%}" == "0%"
    assert told.seconds_left is None
    for _ in range(10):
        clock[0] += 2  # twice as long as expected
        told.add(FAST, 1.0)
    assert told.share == pytest.approx(10 / 50)
    # so the slow ones are expected to take twice as long as well
    assert told.seconds_left == pytest.approx(80)


def test_what_is_observed_of_a_cell_counts_most(clock: list[float]) -> None:
    told = make(clock)
    clock[0] += 4
    told.add(SLOW, 20.0)
    # one more slow unit at the observed 4 s, ten fast ones at a fifth of the expected second
    assert told.seconds_left == pytest.approx(4 + 10 * 0.2)


def test_what_an_earlier_run_did_is_done(clock: list[float]) -> None:
    assert make(clock, fast=0).share == pytest.approx(10 / 50)
    assert make(clock, fast=0, slow=0).share == 1.0


def test_starting_up_does_not_count(clock: list[float]) -> None:
    told = make(clock)
    clock[0] += 100
    told.add(FAST, 1.0, took=3.0)
    assert told.seconds_left == pytest.approx(9 * 3 + 40 * 3)


def test_what_follows_is_part_of_the_time_left(clock: list[float]) -> None:
    told = make(clock, slow=0)
    told.expect("audit", 5.0)
    clock[0] += 2
    told.add(FAST, 1.0)
    assert told.seconds_left == pytest.approx(9 * 2 + 5 * 2)
    told.reach(0.0, "audit")
    clock[0] += 30
    # half of the audit took 30 s
    assert told.reach(0.5, "audit") == pytest.approx(9 * 2 + 30)
    told.finish("audit")
    assert told.seconds_left == pytest.approx(9 * 2)


def test_nothing_is_left_at_the_end(clock: list[float]) -> None:
    told = Meter(lambda: clock[0])
    told.expect(FAST, 0.1 + 0.2)
    for amount in (0.1, 0.2):
        clock[0] += 1
        told.add(FAST, amount)
    assert (told.share, told.seconds_left) == (1.0, 0.0)


def test_work_without_parts_forgets_what_was_done_before(clock: list[float]) -> None:
    told = Meter(lambda: clock[0])
    assert told.reach(0.5) is None
    clock[0] += 10
    # a tenth in ten seconds, four tenths to go
    assert told.reach(0.6) == pytest.approx(40)


def test_unknown_models_count_as_the_slowest_known() -> None:
    from assay.evaluation.plan import Cell as RealCell

    grid = Study.of(
        {"study": "a", "models": ["a.py:f", "b.py:f"], "data": "samples", "threats": [{"norm": "linf", "eps": ["0.1"]}],
         "attacks": ["fgsm"]}
    ).grids[0]  # fmt: skip

    def cell(place: int) -> RealCell:
        return RealCell(
            model=grid.models[place], weights="", preprocess="", data=grid.data[0], fingerprint="", ids_digest="", n=20,
            attack=grid.attacks[0], version=1, threat=grid.threats[0], question="worst_case", goal="untargeted",
            order="ascending", seed=0, chunk=10,
        )  # fmt: skip

    speeds = {"a.py:f": Speed(1.0, 3.0)}
    # FGSM at one budget: two forwards and one backward
    assert expected(cell(0), speeds) == pytest.approx(5)
    assert expected(cell(1), speeds) == pytest.approx(5)
    assert expected(cell(0), {}) == pytest.approx(4)
