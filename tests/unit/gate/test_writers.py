"""What other programs read: every name survives, and a reader of each format says the same as the gate."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from assay.evaluation.study.gate import GateRow
from assay.gate.answers import Outcome, plain
from assay.gate.rules import Place, answers
from assay.gate.writers import SUMMARY_BYTES, junit, lines, markdown, sarif, visible
from tests.support.gated import Fate, fates, gated

HOSTILE = "</testcase>]]><img src=x onerror=alert(1)> & | `x` \x00\x1b[31m\x85 \n# {0} [a](b) \"'"
ROWS = (
    {"robust_accuracy": ">= 40 %", "verdict": "any"}, {"clean_accuracy": ">= 99 %"},
    {"robust_accuracy": ">= 47 %", "verdict": "any"}, {"class": "*", "robust_accuracy": ">= 70 %"},
    {"verdict": "trusted"},
)  # fmt: skip
ANSWERS = ["met", "missed", "cannot tell", "missed", "cannot tell"]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    classes = [HOSTILE, "half \ud800", *map(str, range(2, 10))]
    statuses = {"4/255": [s for _ in range(50) for s in fates(10, 9, 1)]}
    run = gated(tmp_path_factory.mktemp("run"), Fate(statuses, classes=classes, model="net.py:f?a=<b>|"))
    rows = [GateRow.model_validate(row) for row in ROWS]
    return answers(run, rows, [Place("my studies/50%.yaml", 7 + at) for at in range(len(rows))])


def test_control_characters_are_seen() -> None:
    assert visible("a\x00b\x1bc\nd\ud800") == r"a\x00b\x1bc d\xd800"


def test_junit_is_read_back(outcome: Outcome) -> None:
    assert [one.answer for one in outcome.answers] == ANSWERS
    for unsure_fails, kind in ((True, "error"), (False, "skipped")):
        root = ET.fromstring(junit(outcome, unsure_fails=unsure_fails).encode())
        (suite,) = root
        told = {"tests": 5, "failures": 2, "errors": 2 * (kind == "error"), "skipped": 2 * (kind == "skipped")}
        assert {name: int(suite.attrib[name]) for name in told} == told
        cases = suite.findall("testcase")
        names = {"met": "system-out", "missed": "failure", "cannot tell": kind}
        assert [case[-1].tag for case in cases] == [names[answer] for answer in ANSWERS]
        assert cases[0].attrib["classname"].startswith("assay.net.py:f?a=<b>|.")
        assert [case.find("properties/property[@name='place']").attrib["value"] for case in cases][:2] == [
            "my studies/50%.yaml:7", "my studies/50%.yaml:8",
        ]  # fmt: skip
        assert visible(HOSTILE) in (cases[3][-1].text or "")


def test_sarif_is_read_back(outcome: Outcome) -> None:
    (run,) = json.loads(sarif(outcome))["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    results = run["results"]
    assert [(one["ruleId"], one["level"]) for one in results] == [
        ("ASSAY-G002", "error"), ("ASSAY-G001", "note"), ("ASSAY-G004", "error"), ("ASSAY-G005", "note"),
    ]  # fmt: skip
    for one in results:
        assert rules[one["ruleIndex"]] == one["ruleId"]
        place = one["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "my%20studies/50%25.yaml"
    assert [one["locations"][0]["physicalLocation"]["region"]["startLine"] for one in results] == [8, 9, 10, 11]
    text = results[2]["message"]["text"]
    # no link, and no place for an argument
    assert r"\[a\](b)" in text
    assert "{{0}}" in text
    prints = [one["partialFingerprints"]["assayGateRow/v1"] for one in results]
    assert len(set(prints)) == len(prints)
    again = json.loads(sarif(outcome))["runs"][0]["results"]
    assert [one["partialFingerprints"]["assayGateRow/v1"] for one in again] == prints


def test_markdown_keeps_its_table(outcome: Outcome) -> None:
    text = markdown(outcome)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(ROWS)
    for line in table:
        # a bar that is not escaped begins a column
        assert line.replace(r"\|", "").count("|") == 4
    assert "<img" not in text
    assert "&lt;img" in text
    assert "\x00" not in text
    order = [line.split("|")[2].split(maxsplit=1)[1].strip() for line in table[2:]]
    assert order == ["missed", "missed", "cannot tell", "cannot tell", "met"]


@pytest.mark.parametrize("most", [SUMMARY_BYTES, 2500, 900, 100, 25, 0])
def test_markdown_fits(outcome: Outcome, most: int) -> None:
    text = markdown(outcome, most)
    assert len(text.encode()) <= most
    if most == 2500:
        assert "left out" in text


def test_json_says_it_all(outcome: Outcome) -> None:
    told = json.loads(json.dumps(plain(outcome, 4), allow_nan=False))
    assert (told["answer"], told["exit_code"], [row["answer"] for row in told["rows"]]) == ("missed", 4, ANSWERS)
    first = told["rows"][0]["numbers"][0]
    assert (first["n"], first["value"], first["verdict"]) == (1000, 0.5, "not audited")
    names = [number["class"] for number in told["rows"][3]["numbers"]]
    assert names[0] == HOSTILE


def test_a_terminal_gets_no_control_character(outcome: Outcome) -> None:
    told = "\n".join(lines(outcome))
    assert "\x1b" not in told
    assert told.splitlines()[0] == "MET         robust_accuracy >= 40 %, verdict any"


def test_readers_of_junit_read_it(outcome: Outcome, tmp_path: Path) -> None:
    junitparser = pytest.importorskip("junitparser")
    path = tmp_path / "j.xml"
    path.write_text(junit(outcome))
    found = junitparser.JUnitXml.fromfile(str(path))
    assert (found.tests, found.failures, found.errors, found.skipped) == (5, 2, 2, 0)
    cases = [case for suite in found for case in suite]
    assert [[type(one).__name__ for one in case.result] for case in cases] == [[], ["Failure"], ["Error"], ["Failure"],
                                                                               ["Error"]]  # fmt: skip


def test_thousands_of_classes_are_written_at_once(tmp_path: Path) -> None:
    n = 2000
    run = gated(tmp_path / "run", Fate({"4/255": ["survived"] * n}, classes=[f"class {i}" for i in range(n)]))
    row = GateRow.model_validate({"class": "*", "robust_accuracy": ">= 70 %"})
    outcome = answers(run, [row], [Place("s.yaml", 1)])
    began = time.perf_counter()
    assert all(write(outcome) for write in (junit, sarif, markdown, lambda one: list(lines(one))))
    # each number by itself would be asked for the answer of all: minutes for ten thousand
    assert time.perf_counter() - began < 1
