from __future__ import annotations

import dataclasses

import pytest

from assay.cli import forecast
from assay.cli.forecast import Forecast
from assay.evaluation.cost import Speed
from assay.evaluation.study.spec import Study


@dataclasses.dataclass(frozen=True)
class Cell:
    digest: str


@dataclasses.dataclass(frozen=True)
class Unit:
    cell: Cell
    chunk: int


FAST, SLOW = Cell("fast"), Cell("slow")
UNITS = [Unit(FAST, i) for i in range(10)] + [Unit(SLOW, i) for i in range(2)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    monkeypatch.setattr(forecast, "_expected", lambda cell, speeds: speeds[cell.digest])
    return [0.0]


def make(clock: list[float], todo: list[Unit]) -> Forecast:
    return Forecast(UNITS, todo, {"fast": 1.0, "slow": 20.0}, lambda: clock[0])  # type: ignore[arg-type, dict-item]


def test_a_slow_model_weighs_more(clock: list[float]) -> None:
    told = make(clock, UNITS)
    assert f"{told.share:.0%}" == "0%"
    assert told.seconds_left is None
    for _ in range(10):
        clock[0] += 2  # twice as long as expected
        told.finished(FAST)  # type: ignore[arg-type]
    assert told.share == pytest.approx(10 / 50)
    # so the slow ones are expected to take twice as long as well
    assert told.seconds_left == pytest.approx(80)


def test_what_is_observed_of_a_cell_counts_most(clock: list[float]) -> None:
    told = make(clock, UNITS)
    clock[0] += 4
    told.finished(SLOW)  # type: ignore[arg-type]
    # one more slow unit at the observed 4 s, ten fast ones at a fifth of the expected second
    assert told.seconds_left == pytest.approx(4 + 10 * 0.2)


def test_what_an_earlier_run_did_is_done(clock: list[float]) -> None:
    assert make(clock, UNITS[10:]).share == pytest.approx(10 / 50)
    assert make(clock, []).share == 1.0


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
    # FGSM at one budget: two forwards and one backward for each of ten samples
    assert forecast._expected(cell(0), speeds) == pytest.approx(50)
    assert forecast._expected(cell(1), speeds) == pytest.approx(50)
    assert forecast._expected(cell(0), {}) == pytest.approx(40)
