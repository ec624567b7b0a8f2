from __future__ import annotations

import csv as csv_module
import dataclasses
import io
import re

from assay.evaluation.analysis.score import Result
from assay.evaluation.run import Run
from assay.report.formats import csv, latex, markdown
from tests.support.fake_run import HOSTILE


def test_csv_has_every_field_of_every_result(run: Run) -> None:
    rows = list(csv_module.DictReader(io.StringIO(csv(run))))
    results = run.results()
    assert len(rows) == len(results) == 3 * 9 + 10
    # those of models that refuse images, and of bounds, are there where the run has one
    rare = ("rejection", "ignores_defense", "certified")
    names = [field.name for field in dataclasses.fields(Result) if field.name not in rare]
    assert list(rows[0]) == [*names, "wording", "after_escalation", "resolution"]
    assert [float(row["robust_accuracy"]) for row in rows] == [result.robust_accuracy for result in results]
    assert rows[-1]["data"] == f"folder:~/photos {HOSTILE}"


def test_markdown_rows_have_all_their_cells(run: Run) -> None:
    text = markdown(run)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}
    assert "| fgsm | 0.1 | 25.5 |" in text
    assert "one attack, not robustness" in text and "**Not reportable:**" in text


def test_markdown_names_stay_text(run: Run) -> None:
    assert "<img" not in markdown(run)
    assert "&lt;img src=x onerror=alert(1)&gt;" in markdown(run)


def test_latex_is_booktabs_and_escaped(run: Run) -> None:
    text = latex(run)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\bottomrule") == 2
    body = re.sub(r"\\[%&#$_{}]", "", text)
    assert "%" not in body and "#" not in body
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {7}
    assert r"\textless{}img" in text
    assert all(ord(letter) < 128 for letter in text)
