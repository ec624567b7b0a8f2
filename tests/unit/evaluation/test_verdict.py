"""Verdicts as files: written, read back, replaced, joined to results; and files that are none."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import BadInput
from assay.evaluation.analysis.score import Result
from assay.evaluation.records.verdicts import (
    FILE,
    FOLDER,
    Attempt,
    FamilyLook,
    Finding,
    Verdict,
    keep_verdicts,
    read_verdicts,
)
from assay.evaluation.run import _joined

FINDING = Finding("randomness", 0.5, 0.0, True, True, 16, "It is random.", "Average.")
VERDICT = Verdict(
    cells={"a1": "suspect", "b2": "refuted"},
    model="m",
    data="d",
    threat="linf",
    unit="pixel",
    eps=0.1,
    eps_written="0.1",
    goal="untargeted",
    preset="quick",
    seed=0,
    checks=1,
    verdict="suspect",
    why="It is random.",
    n=10,
    survived=5,
    asked=5,
    broken=1,
    as_first_measured=0.5,
    after_escalation=0.4,
    findings=(FINDING,),
    attempts=(Attempt("margin", "", 5, 1, 250),),
    passes=100,
    escalation=250,
    evaluation_passes=400,
    per_check={"answers": 100},
    seconds=1.5,
    curves={"gaps": {"edges": [0.0, 1.0], "counts": [3]}},
)


def test_a_verdict_reads_back_as_it_was_written(tmp_path: Path) -> None:
    assert Verdict.of(VERDICT.plain()) == VERDICT
    assert Verdict.of(json.loads(json.dumps(VERDICT.plain()))) == VERDICT
    assert read_verdicts(tmp_path) == []
    keep_verdicts(tmp_path, [VERDICT])
    assert read_verdicts(tmp_path) == [VERDICT]


def test_what_could_have_been_missed_is_kept_and_older_verdicts_open_without_it(tmp_path: Path) -> None:
    look = FamilyLook("black box", "square", 5, 3, 0, 0.2)
    told = dataclasses.replace(VERDICT, certified=2, looks=(look,), resolution=0.2)
    keep_verdicts(tmp_path, [told])
    assert read_verdicts(tmp_path) == [told] and told.open == 3
    older = VERDICT.plain()
    for name in ("certified", "looks", "resolution"):
        del older[name]
    del older["attempts"][0]["family"]
    assert Verdict.of(older) == VERDICT and VERDICT.resolution is None


def test_one_about_the_same_number_replaces_the_one_before(tmp_path: Path) -> None:
    other, newer = dataclasses.replace(VERDICT, eps=0.2), dataclasses.replace(VERDICT, verdict="trusted", seed=1)
    keep_verdicts(tmp_path, [VERDICT, other])
    keep_verdicts(tmp_path, [newer])
    assert read_verdicts(tmp_path) == [newer, other]


def test_what_is_no_finite_number_becomes_none(tmp_path: Path) -> None:
    odd = dataclasses.replace(
        VERDICT,
        findings=(dataclasses.replace(FINDING, value=math.inf),),
        curves={"losses": {"margin": [math.nan, 1.0]}},
    )
    keep_verdicts(tmp_path, [odd])
    (read,) = read_verdicts(tmp_path)
    assert read.findings[0].value is None
    assert read.curves == {"losses": {"margin": [None, 1.0]}}


BAD: list[Any] = [
    {},
    {**VERDICT.plain(), "verdict": "fine"},
    {**VERDICT.plain(), "more": 1},
    {**VERDICT.plain(), "findings": [{"check": "randomness"}]},
    {**VERDICT.plain(), "attempts": 3},
    {**VERDICT.plain(), "looks": [{"family": "black box"}]},
    {name: value for name, value in VERDICT.plain().items() if name != "eps"},
]


@pytest.mark.parametrize("plain", BAD)
def test_what_is_no_verdict_is_refused(plain: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no stored verdict"):
        Verdict.of(plain)
    write(tmp_path, json.dumps([plain]))
    with pytest.raises(BadInput, match="verdict"):
        read_verdicts(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "3", "[3]", '["a"]', "\x00"])
def test_a_file_that_is_none_is_refused_with_what_to_do(text: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(BadInput, match=r"[Aa]udit the run again"):
        read_verdicts(tmp_path)


def write(folder: Path, text: str) -> None:
    (folder / FOLDER).mkdir(exist_ok=True)
    (folder / FOLDER / FILE).write_text(text)


def result(**more: Any) -> Result:
    usual: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Result)}
    told = {name: getattr(VERDICT, name) for name in ("model", "data", "threat", "unit", "eps", "goal")}
    return Result(**{**usual, **told, "question": "worst_case", "cell": "", "verdict": None, **more})


def test_each_result_gets_the_verdict_on_its_own_number() -> None:
    given = [
        result(),
        result(cell="a1"),
        result(cell="b2"),
        result(cell="c3"),
        result(eps=0.2),
        result(model="other"),
        result(question="as_attacked"),
        result(cell="a1", question="as_attacked"),
    ]
    told = [one.verdict for one in _joined(given, [VERDICT])]
    assert told == ["suspect", "suspect", "refuted", None, None, None, None, None]
    assert [one.verdict for one in _joined(given, [])] == [None] * len(given)
