"""What tables, charts and the page say of models that may refuse an image."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

import assay
from assay import report
from assay.evaluation.analysis.rejection import REJECTION_FIELDS
from assay.evaluation.run import Run
from assay.report import charts, verdicts
from assay.report.breakdown import breakdown
from assay.report.gallery import shelves
from assay.report.groups import groups
from assay.report.headline import headline
from assay.report.html import environment
from assay.report.numbers import as_plain
from assay.report.provenance import checks
from assay.report.tables import passes
from tests.support.tiny import data, evaluate, images
from tests.unit.evaluation.test_rejection import BUDGETS, PGD, fit, matcher


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run of a model with a fitted detector and of its undefended twin, with images made on either."""
    bare = matcher()
    model = dataclasses.replace(fit(bare, images(60, seed=5)[0]), spec="guarded")
    models, attacks = [model, dataclasses.replace(bare, spec="bare")], [PGD, {**PGD, "surrogate": "bare"}]
    out = tmp_path_factory.mktemp("run") / "run"
    return evaluate(models, data(40), attacks, BUDGETS, question="worst_case", out=out)


def test_tables_name_each_number(run: Run) -> None:
    console = Console(width=100, file=io.StringIO())
    report.terminal(run, console)
    told = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]  # the test put it there
    for said in ("robust accuracy with rejection", "strict", "coverage", "selective accuracy", "FPR on clean images",
                 "TPR at 5 % FPR", "SR at 5 % FPR", "not adaptive", "95 % interval of its threshold"):  # fmt: skip
        assert said in told, said
    written = report.markdown(run)
    first, second = written.split("## ")[1:]
    guarded, bare = (first, second) if "guarded" in first.splitlines()[0] else (second, first)
    head = next(line for line in guarded.splitlines() if line.startswith("| attack"))
    assert "| robust accuracy with rejection | 95 % interval | strict robust accuracy | TPR at 5 % FPR | SR at" in head
    assert ", not adaptive |" in guarded and "≤ " in guarded
    # of the model that refuses nothing the table is as it ever was
    plainly = next(line for line in bare.splitlines() if line.startswith("| attack"))
    assert (
        plainly
        == "| attack | eps | grey levels | accuracy | 95 % interval | attack success | median size | passes/image |"
    )
    assert "refus" not in bare and "not adaptive" not in bare
    assert report.latex(run).count("strict robust accuracy &") == 1
    assert "strict robust accuracy" in report.notebook(run)


def test_json_and_csv_have_the_numbers_as_fractions(run: Run) -> None:
    plain = json.loads(json.dumps(as_plain(run), allow_nan=False))["results"]
    assert set(REJECTION_FIELDS) <= set(plain[0]) and "ignores_defense" in plain[0]
    refusing = [one for one in plain if one["coverage"] is not None]
    assert len(refusing) == 6 and all(0 <= one["strict_robust_accuracy"] <= one["robust_accuracy"] for one in refusing)
    assert {one["coverage"] for one in plain if one["model"] == "bare"} == {None}
    head = report.csv(run).splitlines()[0].split(",")
    assert set(REJECTION_FIELDS) <= set(head) and head[-2:] == ["after_escalation", "resolution"]


def test_charts_shade_what_can_only_be_refused(run: Run) -> None:
    group = next(one for one in groups(run) if one.rejects)
    drawn = charts.strict(group)
    assert [row["eps"] for row in drawn] == sorted(row["eps"] for row in drawn) and drawn[0]["eps"] == 0
    assert all(row["strict"] <= row["accuracy"] for row in drawn)
    assert "strokeDash" in json.dumps(charts.curve(group)["layer"][:3])
    assert charts.strict(next(one for one in groups(run) if not one.rejects)) == []
    guarded, bare = (_table(run, place) for place in (True, False))
    for said in (
        "robust accuracy with rejection, 95 % interval",
        "strict robust accuracy",
        "SR at 5 % FPR",
        "Coverage ",
    ):
        assert said in guarded and said not in bare, said
    assert "made on a model without the defence" in guarded


def _table(run: Run, rejects: bool) -> str:
    group = next(one for one in groups(run) if one.rejects == rejects)
    made = environment(told=verdicts.told, passes=passes, refusals=verdicts.refusals)
    macro = made.get_template("parts.html").module.table  # type: ignore[attr-defined]  # the test put it there
    return str(macro(SimpleNamespace(group=group)))


@pytest.mark.slow
def test_the_page_says_what_is_shown(run: Run, tmp_path: Path) -> None:
    page = report.page(run, tmp_path / "page.html").read_text(encoding="utf-8")
    for said in ("Dashed: strict robust accuracy", "robust accuracy with rejection, 95 % interval", "SR at 5 % FPR",
                 "Coverage ", "not adaptive", "refused, not broken", "→ refused"):  # fmt: skip
        assert said in page, said


def test_a_refused_image_is_of_no_class(run: Run) -> None:
    group = next(one for one in groups(run) if one.rejects)
    found = breakdown(run, group)
    assert found is not None
    assert "refused" in {row["became"] for row in found.became}
    assert {row["became"] for row in found.became} <= {"0", "1", "2", "3", "refused"}
    assert not any(row["right"] for row in found.became if row["became"] == "refused")
    cards = [card for shelf in shelves(run, [group], 10**7) for card in shelf.cards]
    refused = [card for card in cards if card.status == "rejected"]
    assert refused and all(card.title.endswith("→ refused") and len(card.after) == 4 for card in refused)
    for place, choice in enumerate(found.choices):
        (result,) = [one for one in run.results() if (one.cell, one.eps) == (choice.cell, choice.eps)]
        rows = [row for row in found.per_class if row["choice"] == place]
        kept = sum(round(row["kept"] * row["n"]) for row in rows)
        assert kept == result.survived


def test_what_ignores_the_defence_is_said_to(run: Run) -> None:
    group = next(one for one in groups(run) if one.rejects)
    assert [line.adaptive for line in group.lines] == [True, False]
    said = {check.title: check.detail for check in checks(run, groups(run))}
    assert "made on a model without the defence" in said["Not adaptive"]
    assert "robust accuracy with rejection" in str(headline(group))
    alone = dataclasses.replace(group, lines=group.lines[1:], worst=None)
    assert "Not adaptive: the images were made on a model without the defence" in str(headline(alone))


def test_a_strict_measurement_stands_beside_the_other() -> None:
    model = assay.defend(matcher(), "max-softmax:threshold=-0.8")
    found = evaluate(model, data(24), PGD, BUDGETS, question="worst_case")
    bound = next(iter(groups(found)))
    strict = evaluate(model, data(24), PGD, BUDGETS, question="worst_case", goal="untargeted strict")
    both = dataclasses.replace(bound, strict=tuple(strict.results()))
    for one, two in zip(bound.lines[0].results, strict.results(), strict=True):
        upper, measured = bound.strict_left(one), both.strict_left(one)
        assert upper is not None and measured is not None and not upper.measured
        assert measured.measured and measured.accuracy == two.robust_accuracy <= upper.accuracy
    own = next(iter(groups(strict)))
    assert own.measure == "strict robust accuracy" and own.strict_left(own.first) is None
