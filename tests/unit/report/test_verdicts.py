from __future__ import annotations

import csv as csv_module
import dataclasses
import io
import json
from pathlib import Path

import pytest

from assay.console.verdict_text import lines as terminal_lines
from assay.evaluation.records.verdicts import FOLDER, Finding
from assay.evaluation.run import Run
from assay.report import verdicts
from assay.report.charts import curve, evidence_charts
from assay.report.evidence import MOST_IMAGES, refuting, rows
from assay.report.formats import csv, latex, markdown
from assay.report.groups import Group, groups
from assay.report.headline import headline
from assay.report.page import page
from assay.report.provenance import checks
from tests.support.audited import IMAGES, audited_run
from tests.support.fake_run import HOSTILE
from tests.support.html_reader import ALLOWED, Reader
from tests.unit.report.test_tables import printed


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return audited_run(tmp_path_factory.mktemp("audited"))


@pytest.fixture(scope="module")
def group(audited: Run) -> Group:
    return groups(audited)[0]


def at(group: Group, *budgets: str) -> Group:
    """Return the group at some of its budgets."""
    lines = [
        dataclasses.replace(line, results=tuple(one for one in line.results if one.eps_written in budgets))
        for line in group.shown
    ]
    return dataclasses.replace(group, lines=tuple(lines[:-1]), worst=lines[-1])


def test_a_refuted_number_is_what_the_escalation_left(group: Group) -> None:
    assert group.worst is not None
    result = next(one for one in group.worst.results if one.eps_written == "0.03")
    shown = verdicts.told(group, result)
    assert shown.accuracy == pytest.approx((result.survived - result.survived // 2) / result.n)
    assert shown.first == result.robust_accuracy and "as first measured" in shown.marked and "✗" in shown.marked
    assert shown.low is not None and shown.low < shown.accuracy < (shown.high or 0)


def test_an_estimate_has_no_interval(group: Group) -> None:
    assert group.worst is not None
    few = tuple(dataclasses.replace(one, asked=one.asked // 2) for one in group.verdicts)
    result = next(one for one in group.worst.results if one.eps_written == "0.03")
    assert verdicts.told(dataclasses.replace(group, verdicts=few), result).range == ""


def test_one_attack_carries_no_verdict(group: Group) -> None:
    fgsm = next(line for line in group.lines if line.label == "fgsm")
    assert all(verdicts.told(group, one).mark == "" for one in fgsm.results)


def test_the_terminal_shows_verdicts_the_first_numbers_and_why(audited: Run) -> None:
    text = printed(audited, 120)
    told = next(line for line in text.splitlines() if line.startswith("verdict")).split()
    assert told[1:] == ["trusted", "trusted", "suspect", "refuted", *["trusted"] * 4]
    assert text.count("as first measured  ") == 3  # both attacks and their worst case
    assert "refuted at 0.03: The gradient is exactly zero" in text
    flat = " ".join(text.split())
    assert "Quick audit: 1,200 passes and 900 of escalation for 4,800 of the evaluation, 4.0 s." in flat
    assert "fgsm: one attack, not robustness" in text


def test_a_narrower_terminal_gets_marks_and_no_line_too_wide(audited: Run) -> None:
    marks = next(line for line in printed(audited, 80).splitlines() if line.startswith("verdict")).split()
    assert marks[1:] == ["✓", "✓", "?", "✗", "✓", "✓", "✓", "✓"]
    for width in (50, 80, 120):
        assert max(map(len, printed(audited, width).splitlines())) <= width
    assert "✗" in printed(audited, 50)


def test_tables_carry_marks_and_their_legend(audited: Run) -> None:
    text = markdown(audited)
    assert "as first measured) |" in text and " ✓ |" in text and "- ✓ trusted:" in text
    tex = latex(audited)
    assert r"$\times$" in tex and r"$\surd$" in tex and "✓" not in tex and "✗" not in tex


def test_csv_has_the_verdict_and_what_is_left(audited: Run) -> None:
    table = list(csv_module.DictReader(io.StringIO(csv(audited))))
    refuted = [row for row in table if row["verdict"] == "refuted"]
    assert len(refuted) == 2
    assert all(float(row["after_escalation"]) < float(row["robust_accuracy"]) for row in refuted)
    assert all(row["after_escalation"] == "" for row in table if not row["verdict"])
    trusted = [row for row in table if row["verdict"] == "trusted"]
    assert trusted and all(row["after_escalation"] == row["robust_accuracy"] for row in trusted)


def test_the_headline_ends_with_the_verdict(group: Group) -> None:
    assert str(headline(group)).endswith(" Trusted.")
    assert "Suspect: the gradient is not that of the model" in str(headline(at(group, "0.02")))
    said = headline(at(group, "0.03"))
    left = next(one for one in group.verdicts if one.eps_written == "0.03").after_escalation
    assert said.left == f"{100 * left:.0f}\u00a0%"
    assert str(said).endswith(f"and the escalation leaves {said.left}.")
    assert "as first measured over 2 attacks, image by image." in said.caveat


def test_how_closely_it_was_looked_is_told(audited: Run, group: Group) -> None:
    first, suspect = group.verdicts[0], next(one for one in group.verdicts if one.eps_written == "0.02")
    assert verdicts.sentence(dataclasses.replace(first, resolution=0.031)) == "Trusted to 3.1 points."
    assert [one["resolution"] for one in map(verdicts.plain, group.verdicts)].count(0.15) == 1
    table = list(csv_module.DictReader(io.StringIO(csv(audited))))
    assert {row["resolution"] for row in table if row["verdict"] == "suspect"} == {"0.15"}
    assert any("looked  black box" in line and "15.0 points" in line for line in terminal_lines(suspect))
    proved = dataclasses.replace(suspect, certified=6)
    assert any("6 images certified (10.0 %)" in line for line in terminal_lines(proved))


def test_no_verdict_is_said_only_where_there_is_none(audited: Run, group: Group, found: list[Group]) -> None:
    assert "No verdict" not in [row.title for row in checks(audited, [group])]
    mixed = [row for row in checks(audited, [group, *found]) if row.title == "No verdict"]
    assert len(mixed) == 1 and mixed[0].detail.startswith("zoo:mnist-cnn on mnist/test, efficientnet-lite0")
    half = dataclasses.replace(group.lines[1].results[3], verdict=None)
    line = dataclasses.replace(group.lines[1], results=(half,))
    assert "No verdict" in [r.title for r in checks(audited, [dataclasses.replace(group, lines=(line,))])]


def test_findings_that_flag_come_first_and_unasked_ones_last() -> None:
    states = [(None, False, True), (0.1, False, True), (0.3, True, False), (0.9, True, True)]
    made = rows([Finding(f"c{i}", v, 0.2, flag, must, 9, "", "") for i, (v, flag, must) in enumerate(states)])
    assert [row.state for row in made] == ["flag", "note", "pass", "unasked"]
    assert made[-1].measured == "—"


def test_every_curve_is_drawn_and_a_missing_one_left_out(group: Group) -> None:
    one = group.verdicts[0]
    assert len(evidence_charts(one)) == 5
    assert "no gradient at all" in json.dumps(evidence_charts(one))
    assert evidence_charts(dataclasses.replace(one, curves={})) == {}


def test_the_curve_shows_what_the_escalation_left(group: Group, digits: Group) -> None:
    assert "after escalation" in json.dumps(curve(group))
    assert "after escalation" not in json.dumps(curve(digits))


def test_refuting_images_are_few_and_a_lost_file_is_no_error(audited: Run, group: Group, tmp_path: Path) -> None:
    one = next(verdict for verdict in group.verdicts if verdict.images)
    folder = Path(audited.path)
    found = refuting(folder, one, None)
    assert len(found) == MOST_IMAGES and found[1].title == "1 → 0" and found[0].tiny
    assert refuting(tmp_path, one, None) == ()
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / IMAGES).write_bytes(b"no tensors")
    assert refuting(tmp_path, one, None) == ()
    # a name that leads out of the run directory finds nothing outside it
    assert refuting(tmp_path, dataclasses.replace(one, images=str(folder / FOLDER / IMAGES)), None) == ()


def test_the_page_opens_the_evidence_and_stays_sealed(audited: Run, tmp_path: Path) -> None:
    read = Reader()
    text = page(audited, tmp_path / "report.html").read_text("utf-8")
    read.feed(text)
    # of one number it is known how closely it was looked at
    assert text.count("What could have been missed") == 1 and "10 of 40" in text and "15.0 points" in text
    assert {tag for tag, _ in read.tags} <= ALLOWED | {"details", "summary", "h4"}
    targets = {attrs.get("id") for tag, attrs in read.tags if tag == "details"}
    badges = [attrs for tag, attrs in read.tags if tag == "a" and (attrs.get("class") or "").startswith("badge")]
    assert len(targets) == 8 and {(attrs["href"] or "")[1:] for attrs in badges} == targets
    charts = [attrs["id"] for tag, attrs in read.tags if attrs.get("class") == "chart"]
    specs = [str(attrs.get("id")) for tag, attrs in read.tags if attrs.get("type") == "application/json"]
    assert sorted(f"{name}-spec" for name in charts) == sorted(specs)
    for _, attrs in read.tags:
        assert not any(name.startswith("on") or name == "style" for name in attrs)
    text = " ".join("".join(read.text).split())
    assert HOSTILE in text and "They disagree" in text and "No verdict" not in text
    assert "Stronger attacks on what was left standing" in text and IMAGES in text
