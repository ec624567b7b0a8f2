"""The numbers of a model that gives scores or labels alone are called what they are, wherever they are shown."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from assay import report
from assay.evaluation.analysis.brackets import BracketTable
from assay.evaluation.run import Run
from assay.report import brackets, charts, effort
from assay.report.groups import Group, groups
from assay.report.headline import headline
from assay.report.numbers import as_plain
from assay.report.tables import notes
from assay.wording import measure
from tests.support.fake_run import fake_run, with_manifest

CALLED = "not broken within 1,000 queries"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run in which the digits' model gives scores alone, and the scenes' one gradients."""
    made = fake_run(Path(tmp_path_factory.mktemp("run")), digits=60)
    models = {name: dict(facts) for name, facts in made.manifest["models"].items()}
    models["zoo:mnist-cnn"]["access"] = "scores"
    cells = [name for name, cell in made.cells.items() if cell["model"] == "zoo:mnist-cnn"]
    return with_manifest(made, models=models, query_limits=dict(zip(cells, (1, 300, 1000), strict=True)))


@pytest.fixture(scope="module")
def box(run: Run) -> Group:
    return next(one for one in groups(run) if one.black_box)


@pytest.mark.parametrize(
    ("access", "limit", "said"),
    [("gradient", None, "robust accuracy"), ("gradient", 5, "robust accuracy"), ("scores", 1000, CALLED),
     ("labels", 1, "not broken within 1 query"), ("labels", None, "not broken within its queries")],
)  # fmt: skip
def test_a_number_is_called_by_what_the_model_gives(access: str, limit: int | None, said: str) -> None:
    assert measure(access, limit) == said


def test_results_say_the_access_and_the_queries_of_their_attack(run: Run) -> None:
    told = {(one.attack, one.access, one.queries_limit, one.wording) for one in run.results()}
    assert {(access, limit, said) for _, access, limit, said in told} == {
        ("scores", 1, "not broken within 1 query"),
        ("scores", 300, "not broken within 300 queries"),
        ("scores", 1000, CALLED),
        ("gradient", None, "robust accuracy"),
    }
    # of several attacks together, the one that asks most
    assert {one.wording for one in run.worst_case() if one.model == "zoo:mnist-cnn"} >= {CALLED}


def test_runs_of_before_are_of_models_with_gradients(run: Run) -> None:
    before = with_manifest(run, models={name: {**facts, "access": "gradient"} for name, facts in
                                        run.manifest["models"].items()})  # fmt: skip
    models = {
        name: {k: v for k, v in facts.items() if k != "access"} for name, facts in before.manifest["models"].items()
    }
    manifest = {name: value for name, value in before.manifest.items() if name != "query_limits"}
    old = dataclasses.replace(run, manifest={**manifest, "models": models})
    assert {one.wording for one in old.results()} == {"robust accuracy"}
    assert {one.measure for one in groups(old)} == {"accuracy"}


def test_a_group_is_called_by_the_attack_that_asks_most_and_a_mixed_run_has_both(run: Run, box: Group) -> None:
    assert box.measure == CALLED
    assert {one.measure for one in groups(run)} == {CALLED, "robust accuracy"}
    assert [line.queries for line in box.lines] == [1, 300, 1000]
    (told,) = box.asked
    assert (
        "gives scores alone" in told and "300 queries" in told and "attacks with gradients may leave far less" in told
    )
    assert told in notes(box, [])


def test_images_made_elsewhere_are_told_as_such(box: Group) -> None:
    lines = [dataclasses.replace(line, label="pgd(surrogate=zoo:mnist-cnn)") for line in box.lines]
    (told,) = dataclasses.replace(box, lines=lines).asked
    assert "Its images were made on another model" in told and "attacks with gradients" not in told
    mixed = dataclasses.replace(box, lines=[*lines[:1], *box.lines[1:]])
    assert "attacks with gradients may leave far less" in mixed.asked[0]


def test_the_headline_says_what_was_measured(box: Group) -> None:
    said = str(headline(box))
    assert f"the share of images that are right and {CALLED}" in said
    assert "a model that gives scores alone: an attack with gradients may leave far less" in said
    assert "robust" not in said


def test_the_chart_says_it_on_its_axis_and_in_its_tooltips(box: Group) -> None:
    drawn = json.dumps(charts.curve(box))
    assert f'"title": "{CALLED}"' in drawn
    assert '"title": "accuracy"' not in drawn


@pytest.mark.parametrize("form", [report.markdown, report.latex, report.csv, report.notebook])
def test_text_tables_say_it(run: Run, form: object) -> None:
    assert CALLED in form(run)  # type: ignore[operator]  # each takes a run


def test_csv_and_json_have_fields_for_it(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(report.csv(run))))
    assert {(one["access"], one["queries_limit"], one["wording"]) for one in rows} >= {
        ("scores", "1000", CALLED), ("gradient", "", "robust accuracy")}  # fmt: skip
    plain = as_plain(run)["results"]
    assert {(one["access"], one["queries_limit"], one["wording"]) for one in plain} >= {
        ("scores", 1000, CALLED), ("gradient", None, "robust accuracy")}  # fmt: skip


def test_accuracy_over_queries_is_what_is_not_broken_so_far(run: Run) -> None:
    console = Console(record=True, width=120)
    effort.terminal(run, "queries", console)
    said = console.export_text()
    assert "not broken so far, %, once so many queries per image were spent" in said
    assert "accuracy, %" not in said


def test_the_page_says_it_in_headline_legend_and_table(run: Run, tmp_path: Path) -> None:
    html = report.page(run, tmp_path / "page.html").read_text()
    assert f"that are right and {CALLED}" in html
    assert f"{CALLED}, 95 % interval" in html
    assert "not broken within 300 queries" in html
    # in the legend, beside the attack
    assert "bim(steps=10), within 300 queries" in html
    assert "are right and not broken" in html
    assert "and no robust accuracy" in html


@pytest.mark.parametrize("said", ["robust accuracy", CALLED])
def test_a_bracket_says_what_its_upper_end_is(said: str) -> None:
    table = BracketTable("box", "mnist/test", "linf", "pixel", (), ("smoothing",), ("square",), 0.001, said)
    told = " ".join(brackets.lines(table))
    assert (f"Robust is here what was {CALLED}" in told) is (said == CALLED)
