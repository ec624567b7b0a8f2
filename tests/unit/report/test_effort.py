from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from assay.evaluation.analysis.query_curves import Effort, Stage
from assay.evaluation.run import Run
from assay.report.effort import after_stages, chart, curves_of, milestones, plain, terminal
from assay.report.groups import groups


def test_milestones_are_round_and_end_where_the_spending_does() -> None:
    assert milestones(1) == [1]
    assert milestones(37) == [1, 2, 5, 10, 20, 37]
    assert milestones(5000)[-3:] == [1000, 2000, 5000]
    assert len(milestones(10**9)) == 9


def test_the_table_and_the_plain_values_say_the_same(run: Run) -> None:
    stream = io.StringIO()
    terminal(run, "queries", Console(file=stream, width=120, color_system=None))
    text = stream.getvalue()
    curves = plain(run, "queries")
    assert {one["attack"] for one in curves} == {"pgd(steps=40)"}
    assert "pgd(steps=40)" in text and "bim" not in text
    json.dumps(curves)
    for one in curves:
        shares = [share for _, share in one["points"]]
        assert shares == sorted(shares, reverse=True)


def test_a_run_without_such_attacks_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "efforts", lambda self, over: [])
    stream = io.StringIO()
    terminal(run, "steps", Console(file=stream, width=120, color_system=None))
    assert "question: worst_case" in stream.getvalue()


def test_the_chart_begins_at_the_clean_accuracy_and_ends_at_the_last_query(run: Run) -> None:
    group = groups(run)[0]
    cell = next(line.cell for line in group.lines if line.label.startswith("pgd"))
    assert cell is not None
    curve = Effort(cell, "pgd", 0.1, "0.1", "queries", 10, 0.9, (4, 8), (0.5, 0.2), 20)
    assert curves_of([curve], group, 0.1) == [curve]
    assert curves_of([curve], group, 0.2) == []
    spec = json.dumps(chart([curve], group))
    for cost, left in [(1, 0.9), (4, 0.5), (8, 0.2), (20, 0.2)]:
        assert f'"cost": {cost}, "accuracy": {left}' in spec


def test_stages_are_told_in_their_order(run: Run) -> None:
    group = groups(run)[0]
    line = group.lines[0]
    assert line.cell is not None
    told = [Stage(line.cell, 0.1, "0.1", 1, "fast", 3, 150, 200), Stage(line.cell, 0.1, "0.1", 2, "slow", 1, 149, 200)]
    assert after_stages(told, line, 0.1).replace("\u00a0", " ") == "fast 75.0 %, slow 74.5 %"
    assert after_stages(told, line, 0.2) == ""
