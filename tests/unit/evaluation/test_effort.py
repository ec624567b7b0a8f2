"""What success took: counted by hand, and on a real run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assay.core.errors import BadInput
from assay.evaluation.analysis.query_curves import COSTS, Effort, Stage, efforts, stages
from assay.evaluation.methods import stops_at_success
from assay.evaluation.study.spec import Study
from tests.support.tiny import run_here


def cell(attack: str = "pgd", question: str = "worst_case", order: str = "ascending", **options: Any) -> dict[str, Any]:
    return {
        "question": question,
        "order": order,
        "norm": "linf",
        "specs": {"attack": {"attack": attack, **options}},
    }


def table(rows: list[tuple[str, float, str, int]], stage: dict[str, str] | None = None) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "cell": "c", "attack": "pgd", "chunk": 0, "eps": eps, "eps_written": str(eps), "sample_id": sample,
                "status": status, "stage": (stage or {}).get(sample) if status == "broken" else None,
                **dict.fromkeys(COSTS, cost),
            }
            for sample, eps, status, cost in rows
        ],
        pa.schema([("cell", "string"), ("attack", "string"), ("chunk", "int32"), ("eps", "double"),
                   ("eps_written", "string"),
                   ("sample_id", "string"), ("status", "string"), ("stage", "string"), *((c, "int64") for c in COSTS)]),
    )  # fmt: skip


ROWS = [
    ("a", 0.1, "clean_wrong", 0), ("b", 0.1, "broken", 3), ("c", 0.1, "survived", 9), ("d", 0.1, "survived", 9),
    ("e", 0.1, "error", 0),
    ("a", 0.2, "clean_wrong", 0), ("b", 0.2, "broken", 0), ("c", 0.2, "broken", 5), ("d", 0.2, "survived", 9),
    ("e", 0.2, "error", 0),
]  # fmt: skip


def test_costs_add_up_over_the_budgets_a_sample_met() -> None:
    small, large = efforts(table(ROWS), {"c": cell()}, "queries")
    assert small == Effort("c", "pgd", 0.1, "0.1", "queries", 4, 0.75, (3,), (0.5,), 9)
    # c stood 9 at the smaller budget and fell after 5 more
    assert large == Effort("c", "pgd", 0.2, "0.2", "queries", 4, 0.75, (3, 14), (0.5, 0.25), 18)
    assert [large.at(cost) for cost in (0, 2, 3, 13, 14, 100)] == [0.75, 0.75, 0.5, 0.5, 0.25, 0.25]


def test_only_where_a_sample_stops_at_success_do_counts_say_what_it_took() -> None:
    assert stops_at_success(cell())
    for other in (cell(question="as_attacked"), cell(order="descending"), cell("fgsm"), cell("patch", file="x")):
        assert not stops_at_success(other)
        assert efforts(table(ROWS), {"c": other}, "queries") == []


def test_what_is_no_cost_is_an_error() -> None:
    with pytest.raises(BadInput, match="'query' is no cost, expected one of queries"):
        efforts(table(ROWS), {"c": cell()}, "query")


def test_a_run_knows_its_efforts(tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    spec = {
        "study": "t", "models": [tiny_model], "data": [tiny_source], "question": "worst_case",
        "threats": [{"norm": "linf", "eps": [0.05, 0.1]}], "attacks": [{"attack": "pgd", "steps": 7}, "fgsm"],
    }  # fmt: skip
    run = run_here(tmp_path, Study.of(spec))
    found = run.efforts("queries")
    assert [one.eps for one in found] == [0.05, 0.1]
    results = {one.eps: one for one in run.results() if one.attack.startswith("pgd")}
    for one in found:
        assert one.attack == "pgd(steps=7)"
        assert one.at(10**6) == pytest.approx(results[one.eps].robust_accuracy)
        assert one.clean == pytest.approx(results[one.eps].clean_accuracy)
        assert len(one.costs) > 1
        # one look at the image itself, seven steps and the last look, per budget
        assert one.spent <= 1 + 8 * (1 + found.index(one))
    assert run.stages() == []


def test_stages_subtract_what_each_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.attacks import ATTACKS, AttackEntry
    from assay.attacks.gradient import FGSM, PGD
    from assay.core.compose import Cascade

    composed = AttackEntry(
        lambda: Cascade((FGSM(), PGD()), ("fast", "slow")), 1, ("linf",), "two", "none", "composition"
    )
    monkeypatch.setitem(ATTACKS, "two", composed)
    given = table(ROWS, {"b": "1 fast", "c": "2 slow"})
    assert stages(given, {"c": cell("two")}) == [
        Stage("c", 0.1, "0.1", 1, "fast", 1, 2, 4), Stage("c", 0.1, "0.1", 2, "slow", 0, 2, 4),
        Stage("c", 0.2, "0.2", 1, "fast", 1, 2, 4), Stage("c", 0.2, "0.2", 2, "slow", 1, 1, 4),
    ]  # fmt: skip
    assert stages(given, {"c": cell("pgd")}) == []
