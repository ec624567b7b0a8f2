from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from assay.core.errors import BadInput
from assay.evaluation.analysis.compare import confusion, mcnemar, minimal_budgets, per_class
from assay.evaluation.analysis.score import SCORED, Result, results, worst_case
from assay.evaluation.records.schema import SCHEMA, STATUSES, Record, to_table
from assay.statistics import mcnemar_p, wilson
from tests.unit.evaluation.test_record import ONE

STATUS = st.sampled_from(["clean_wrong", "broken", "survived", "error"])


def record(cell: str, sample: int, eps: float, status: str, **more: object) -> Record:
    usual = dataclasses.replace(
        ONE, cell=cell, attack=f"attack {cell}", sample_id=f"d/{sample}", eps=eps, eps_written=str(eps), status=status,
        rank=None if status == "error" else 1 if status == "survived" else 2 + sample % 7,
        size_linf=None if status == "error" else eps * (sample % 5) / 4, label=sample % 3, prediction=(sample + 1) % 3,
    )  # fmt: skip
    return dataclasses.replace(usual, **more)  # type: ignore[arg-type]


RECORDS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.sampled_from([0.1, 0.2]), STATUS),
    unique_by=lambda row: row[:3], min_size=1, max_size=40,
).map(lambda rows: [record(*row) for row in rows])  # fmt: skip


@given(RECORDS)
def test_results_are_what_counting_by_hand_gives(found: list[Record]) -> None:
    by_hand: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for one in found:
        by_hand[one.cell, one.eps].append(one)
    scored = results(to_table(found))
    assert [(one.cell, one.eps) for one in scored] == list(by_hand)
    for result in scored:
        rows = by_hand[result.cell, result.eps]
        tally = {status: sum(one.status == status for one in rows) for status in STATUSES}
        n = len(rows) - tally["error"]
        assert (result.n, result.errors, result.broken) == (n, tally["error"], tally["broken"])
        assert result.clean_correct == tally["broken"] + tally["survived"] and result.survived == tally["survived"]
        assert result.forwards == sum(one.forwards for one in rows)
        assert result.seconds == pytest.approx(sum(one.seconds for one in rows))
        sizes = [one.size_linf for one in rows if one.status == "broken" and one.size_linf is not None]
        assert result.median_size == (pytest.approx(statistics.median(sizes)) if sizes else None)
        if n:
            assert result.robust_accuracy == tally["survived"] / n
            assert result.top1_error == sum((one.rank or 0) > 1 for one in rows) / n
            assert result.top5_error == sum((one.rank or 0) > 5 for one in rows) / n
            assert result.robust_low <= result.robust_accuracy <= result.robust_high
        else:
            assert math.isnan(result.robust_accuracy) and (result.robust_low, result.robust_high) == (0, 1)
        assert math.isnan(result.attack_success) == (result.clean_correct == 0)


@given(RECORDS)
def test_the_worst_case_is_what_merging_by_hand_gives(found: list[Record]) -> None:
    attacks: dict[float, set[str]] = defaultdict(set)
    rows: dict[tuple[float, str], list[Record]] = defaultdict(list)
    for one in found:
        attacks[one.eps].add(one.cell)
        rows[one.eps, one.sample_id].append(one)
    expected: dict[float, list[str]] = defaultdict(list)
    for (eps, _), several in rows.items():
        if {one.cell for one in several} == attacks[eps]:
            statuses = {one.status for one in several}
            order = ("clean_wrong", "broken", "error", "survived")
            expected[eps].append(next(status for status in order if status in statuses))
    scored = {one.eps: one for one in worst_case(to_table(found))}
    assert set(scored) == set(expected)
    for eps, statuses in expected.items():
        one = scored[eps]
        assert (one.survived, one.broken, one.errors) == tuple(
            statuses.count(status) for status in ("survived", "broken", "error")
        )
        assert one.n == len(statuses) - one.errors and one.cell == ""
        assert one.attack == ("worst case of 2" if len(attacks[eps]) == 2 else f"attack {next(iter(attacks[eps]))}")


def test_the_worst_case_never_mixes_what_cannot_be_compared() -> None:
    rows = [
        record("a", 0, 0.1, "survived"),
        record("b", 0, 0.1, "broken", question="as_attacked"),
        record("c", 0, 0.1, "broken", threat="linf no-box"),
        record("d", 0, 0.1, "broken", model="other"),
        record("e", 0, 0.1, "broken", data="other"),
        record("f", 0, 0.1, "broken", goal="targeted 3"),
        record("g", 0, 0.1, "broken", unit="normalized"),
    ]
    found = worst_case(to_table(rows))
    assert [one.survived for one in found] == [1, 0, 0, 0, 0, 0, 0]


def test_a_perturbation_counts_in_its_own_norm_and_unit() -> None:
    rows = [
        record("a", 1, 0.1, "broken", threat="l2 no-box", size_l2=7.0),
        record("b", 1, 0.5, "broken", unit="normalized", eps_written="normalized 0.5"),
    ]
    first, second = results(to_table(rows), {"m": (0.2, 0.4)})
    assert first.median_size == 7.0 and first.grey_levels == pytest.approx(25.5)
    assert second.grey_levels == pytest.approx(255 * 0.5 * 0.3)
    assert math.isnan(results(to_table(rows))[1].grey_levels)


def test_nothing_gives_nothing() -> None:
    assert results(SCHEMA.empty_table()) == worst_case(SCHEMA.empty_table()) == []


@given(st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_wilson_agrees_with_scipy(pair: tuple[int, int]) -> None:
    hits, n = pair
    if n == 0:
        assert wilson(0, 0) == (0, 1)
        return
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_known_intervals() -> None:
    assert wilson(0, 1000)[1] == pytest.approx(0.0038, abs=5e-5)
    low, high = wilson(885, 1000)
    assert (high - low) / 2 == pytest.approx(0.020, abs=5e-4)


@pytest.mark.parametrize(("b", "c", "p"), [(6, 0, 0.03125), (5, 0, 0.0625), (20, 8, 0.0357), (0, 0, 1), (3, 3, 1)])
def test_mcnemar_by_hand(b: int, c: int, p: float) -> None:
    assert mcnemar_p(b, c) == mcnemar_p(c, b) == pytest.approx(p, abs=1e-4)


def test_two_runs_are_compared_sample_by_sample() -> None:
    first = ["survived"] * 9 + ["broken", "clean_wrong", "error"]
    second = ["survived"] * 2 + ["broken"] * 7 + ["survived", "clean_wrong", "survived"]
    a, b = (
        to_table([record(name, i, 0.1, status) for i, status in enumerate(side)])
        for name, side in (("a", first), ("b", second))
    )
    paired = mcnemar(a, b.take(pa.array(np.arange(12)[::-1].copy())))
    assert (paired.n, paired.both, paired.only_a, paired.only_b, paired.neither) == (11, 2, 7, 1, 1)
    assert paired.p_value == pytest.approx(binomtest(1, 8).pvalue)
    with pytest.raises(BadInput, match="share no sample"):
        mcnemar(a, to_table([record("c", 99, 0.1, "survived")]))
    with pytest.raises(BadInput, match="records b hold a sample more than once"):
        mcnemar(a, pa.concat_tables([b, b]))


def test_classes_confusions_and_smallest_budgets() -> None:
    rows = [
        record("a", i, eps, status)
        for eps, statuses in (
            (0.1, ["survived", "broken", "clean_wrong", "survived", "error", "survived"]),
            (0.2, ["broken", "broken", "clean_wrong", "survived", "error", "broken"]),
        )
        for i, status in enumerate(statuses)
    ]
    table = to_table(rows)
    classes = {(one.eps_written, one.label): one for one in per_class(table)}
    assert {key: (one.n, one.clean_correct, one.survived) for key, one in classes.items()} == {
        ("0.1", 0): (2, 2, 2), ("0.1", 1): (1, 1, 0), ("0.1", 2): (2, 1, 1),
        ("0.2", 0): (2, 2, 1), ("0.2", 1): (1, 1, 0), ("0.2", 2): (2, 1, 0),
    }  # fmt: skip
    assert (classes["0.2", 0].robust_low, classes["0.2", 0].robust_high) == wilson(1, 2)
    became = {(row["eps"], row["label"], row["prediction"]): row["count"] for row in confusion(table).to_pylist()}
    assert became == {(0.1, 1, 2): 1, (0.2, 0, 1): 1, (0.2, 1, 2): 1, (0.2, 2, 0): 1}
    least = {row["sample_id"]: row["eps"] for row in minimal_budgets(table).to_pylist()}
    assert least == {"d/0": 0.2, "d/1": 0.1, "d/2": 0.0, "d/3": None, "d/4": None, "d/5": 0.2}


def big(n: int, budgets: int) -> pa.Table:
    table = to_table([dataclasses.replace(ONE, sample_id=f"d/{i}") for i in range(1000)])
    table = pa.concat_tables([table] * (n // 1000 * budgets)).combine_chunks()
    rows = n * budgets
    ids = pa.array([f"d/{i}" for i in range(n)])
    columns = {
        "eps": pa.array(np.repeat(np.arange(budgets) / 100, n)),
        "sample_id": pa.concat_arrays([ids] * budgets),
        "status": pa.array(STATUSES).take(pa.array(np.arange(rows) % 3)),
    }
    for name, column in columns.items():
        table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), column)
    return table


def test_ten_thousand_samples_at_ten_budgets_score_at_once() -> None:
    table = big(10_000, 10)
    began = time.perf_counter()
    found = results(table.select(list(SCORED)))
    assert time.perf_counter() - began < 1.0
    assert len(found) == 10 and all(isinstance(one, Result) and one.n == 10_000 for one in found)
    began = time.perf_counter()
    assert len(worst_case(table)) == 10
    assert time.perf_counter() - began < 2.0
