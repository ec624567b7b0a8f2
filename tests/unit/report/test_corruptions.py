"""Corrupted data in tables, files and the page: an average case, and never the words of attacks."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from assay import report
from assay.data.corruption import PHOTOS, SEVERITIES
from assay.evaluation.analysis.corruptions import ALEXNET, CorruptionResult, CorruptionTable
from assay.evaluation.run import Run
from assay.evaluation.run_study import run_study
from assay.evaluation.study.spec import Study
from assay.report import corruptions
from assay.report.theme import IN_FILE

FORBIDDEN = re.compile(r"robust|broken|worst|surviv", re.IGNORECASE)
STUDY = {"study": "corrupted", "models": "zoo:mnist-cnn", "data": {"source": "mnist/test", "limit": 10}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    asked = Study.of({**STUDY, "corruptions": {"kinds": ["fog", "stripe"], "severities": "1-2"}})
    return run_study(asked, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def table() -> CorruptionTable:
    """Return a table of 200 images with all of ImageNet-C, whose accuracy is a tenth less per severity."""
    results = tuple(
        CorruptionResult("c", "net", "folder:photos", kind, severity, 200, 0.9 - severity / 10, 0.4, 0.6, 0)
        for kind in PHOTOS.kinds
        for severity in SEVERITIES
    )
    clean = dataclasses.replace(results[0], corruption="", severity=0, accuracy=0.9)
    return CorruptionTable("net", "folder:photos", PHOTOS, clean, results, imagenet=True)


def test_a_row_per_corruption_and_a_mean_of_each_kind(table: CorruptionTable) -> None:
    head, *body = corruptions.texts(table)
    assert head == ["corruption", *(f"severity {s}" for s in SEVERITIES), "mean", "CE", "relative CE"]
    assert [row[0] for row in body] == [*PHOTOS.standard, "mean of 15", *table.validation, "mean of validation"]
    assert body[0][1:7] == [*(f"{90 - 10 * s}.0\u00a0% [40–60]" for s in SEVERITIES), "60.0\u00a0%"]
    assert body[0][7] == f"{100 * 0.4 / ALEXNET['gaussian-noise']:.1f}"
    assert body[15][1:7] == [*(f"{90 - 10 * s}.0\u00a0%" for s in SEVERITIES), "60.0\u00a0%"]
    assert body[15][7] == f"mCE {table.mean_error:.1f}"
    assert body[16][7:] == ["", ""]  # AlexNet's errors of the validation corruptions are not published


def test_a_part_of_the_fifteen_is_called_a_part(table: CorruptionTable) -> None:
    fewer = dataclasses.replace(table, results=tuple(one for one in table.results if one.corruption in ("fog", "snow")))
    assert corruptions.mean_name(fewer) == "mean of 2 of the 15"
    assert corruptions.plain(fewer)["mce"] is None
    assert set(corruptions.plain(fewer)["ce"]) == {"fog", "snow"}


def test_the_heat_map_has_a_field_per_cell(table: CorruptionTable) -> None:
    spec = corruptions.heat_map(table, IN_FILE)
    values = (
        spec["layer"][0]["data"]["values"] if "data" in spec["layer"][0] else spec["datasets"][spec["data"]["name"]]
    )
    assert len(values) == 19 * 5
    assert {value["told"] for value in values} == {"80", "70", "60", "50", "40"}
    assert "average case" in json.dumps(spec)


def test_no_form_speaks_of_robustness(run: Run, tmp_path: Path) -> None:
    out = io.StringIO()
    report.terminal(run, Console(file=out, width=100))
    page = report.page(run, tmp_path / "page.html").read_text(encoding="utf-8")
    # of the page what a reader sees
    main = page[page.index("<main") : page.index('<section id="provenance"')]
    seen = re.sub("<[^>]+>", " ", main)
    for text in (out.getvalue(), report.markdown(run), report.latex(run), report.csv(run), report.notebook(run), seen):
        assert "average case" in text
        assert not FORBIDDEN.search(text), FORBIDDEN.search(text)
    assert "fog" in main
    assert 'id="corruptions-0"' in main
    assert 'href="#curve"' not in page


def test_csv_and_files(run: Run, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(report.csv(run))))
    assert [(row["corruption"], row["severity"]) for row in rows] == [
        ("none", "0"), ("fog", "1"), ("fog", "2"), ("stripe", "1"),
    ]  # fmt: skip
    (table,) = run.corruptions()
    assert [float(row["corruption_accuracy"]) for row in rows[1:]] == [one.accuracy for one in table.results]
    assert {row["measure"] for row in rows} == {"average case"}
    (drawn,) = report.figures(run, tmp_path)
    assert "average case" in drawn.read_text()


def test_beside_an_attack_both_are_told_apart(tmp_path: Path) -> None:
    asked = {**STUDY, "corruptions": "fog", "attacks": "fgsm", "threats": {"norm": "linf", "eps": 0.1}, "audit": "off"}
    both = run_study(Study.of(asked), tmp_path)
    assert [one.attack for one in both.results()] == ["fgsm"]
    rows = list(csv.DictReader(io.StringIO(report.csv(both))))
    assert [(row["attack"], row["robust_accuracy"] == "", row["corruption"]) for row in rows] == [
        ("fgsm", False, ""), ("", True, "none"), ("", True, "fog"),
    ]  # fmt: skip
    page = report.page(both, tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'href="#curve"' in page
    assert 'href="#corruptions"' in page
    assert "mnist/test|fog" not in page[page.index("<main") :].partition('id="corruptions"')[0]
