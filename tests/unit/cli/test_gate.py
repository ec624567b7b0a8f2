"""`assay gate`, `assay compare` and `assay baseline`: from a run to an exit code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.evaluation.run import STUDY_FILE
from tests.support.gated import Fate, fates, gated
from tests.support.workplace import Workplace

LIMIT = {"robust_accuracy": ">= 40 %", "verdict": "any"}
NOT_WORSE = {"robust_accuracy": "not worse by more than 1 point", "against": "baseline"}


def run(folder: str, left: int, *gate: dict[str, Any], **more: Any) -> None:
    gated(Path(folder), Fate({"4/255": fates(left, 1000 - left)}, **more), gate=gate)


@pytest.mark.parametrize(
    ("left", "flags", "code", "said"),
    [
        (600, "", 0, "MET"), (300, "", 4, "MISSED"), (400, "", 5, "CANNOT TELL"),
        (400, " --on-unsure pass", 0, "CANNOT TELL"), (300, " --on-unsure pass", 4, "MISSED"),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_answer(place: Workplace, left: int, flags: str, code: int, said: str) -> None:
    run("runs/demo", left, LIMIT)
    told = place.assay(f"gate runs/demo{flags}")
    assert told.code == code
    assert told.out.startswith(said)
    assert place.assay(f"gate runs/demo --json{flags}").code == code


def test_a_study_file_is_asked_about_its_run(place: Workplace) -> None:
    run("runs/demo", 600, LIMIT)
    shutil.copy(f"runs/demo/{STUDY_FILE}", "study.yaml")
    assert place.assay("gate study.yaml").code == 0
    # the gate may change after the run
    text = Path("study.yaml").read_text()
    Path("study.yaml").write_text(text.replace(">= 40 %", ">= 90 %"))
    told = place.assay("gate study.yaml --json")
    assert told.code == 4
    (row,) = json.loads(told.out)["rows"]
    assert (row["file"], row["line"]) == ("study.yaml", 1 + text[: text.index("robust_accuracy")].count("\n"))
    # what was measured may not
    Path("study.yaml").write_text(text.replace("fgsm", "pgd"))
    told = place.assay("gate study.yaml")
    assert told.code == 2
    assert "runs/demo is not a run of study.yaml as it stands" in told.err
    # without --fork the directory of another study is refused
    assert "(assay run study.yaml --fork, which leaves runs/demo as it is)" in " ".join(told.err.split())
    Path("runs/demo").rename("elsewhere")
    Path("study.yaml").write_text(text)
    assert "assay run study.yaml" in place.assay("gate study.yaml").err
    assert place.assay("gate study.yaml --run elsewhere").code == 0


def test_an_older_run_is_not_taken_for_the_last_one(place: Workplace) -> None:
    run("runs/demo", 600, LIMIT)
    shutil.copy(f"runs/demo/{STUDY_FILE}", "study.yaml")
    run("runs/demo-2", 300, LIMIT, weights="bbbb")
    manifest = Path("runs/demo-2/manifest.json")
    manifest.write_text(manifest.read_text().replace("2026-11-30", "2026-12-01"))
    told = place.assay("gate study.yaml")
    assert (told.code, "runs/demo-2 is a later run" in told.err) == (2, True)
    assert place.assay("gate study.yaml --run runs/demo-2").code == 4
    assert place.assay("gate study.yaml --run runs/demo").code == 0


def test_a_model_that_changed_after_the_run_is_told(place: Workplace) -> None:
    run("runs/demo", 600, LIMIT, model="toy.py:linear")
    os.utime("toy.py", (4e9, 4e9))
    assert "toy.py has changed since the run" in place.assay("gate runs/demo").out
    os.utime("toy.py", (1e9, 1e9))
    assert "has changed" not in place.assay("gate runs/demo").out


def test_a_baseline_from_the_first_run_to_the_failure(place: Workplace) -> None:
    run("runs/old", 600)
    told = place.assay("baseline save runs/old")
    assert told.code == 0
    assert Path("assay-baseline.json").stat().st_size < 2000
    assert place.assay("baseline save runs/old").code == 0  # the same content changes nothing
    run("runs/same", 600, NOT_WORSE, weights="cccc")
    run("runs/worse", 540, NOT_WORSE, weights="bbbb")
    assert place.assay("gate runs/same").code == 0
    told = place.assay("gate runs/worse")
    assert told.code == 4
    assert "−6.0 points" in told.out
    assert "60 newly broken" in told.out
    assert "other weights" in told.out
    assert place.assay("gate runs/worse --baseline runs/old").code == 4
    told = place.assay("baseline save runs/worse")
    assert (told.code, "--force" in told.err) == (2, True)
    assert place.assay("baseline save runs/worse --force").code == 0
    assert place.assay("gate runs/worse").code == 0


def test_files_and_the_summary_of_a_workflow(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    run("runs/demo", 300, LIMIT)
    summary = place.folder / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    told = place.assay("gate runs/demo --junit out/j.xml --sarif out/s.sarif --markdown out/m.md")
    assert told.code == 4
    assert "<failure" in Path("out/j.xml").read_text()
    (result,) = json.loads(Path("out/s.sarif").read_text())["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == f"runs/demo/{STUDY_FILE}"
    assert summary.read_text() == f"before\n\n{Path('out/m.md').read_text()}"
    # a summary that is full takes no more
    summary.write_text("x" * (1024 * 1024 - 50))
    assert place.assay("gate runs/demo --markdown -").out.startswith("## Assay gate")
    assert summary.stat().st_size <= 1024 * 1024
    # and one that cannot be written changes no answer
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "nowhere/summary.md")
    told = place.assay("gate runs/demo")
    assert told.code == 4
    assert "could not be written" in told.err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("gate nothing.yaml", "There is no study nothing.yaml"),
        ("gate runs/none", "There is no study runs/none"),
        ("gate runs/bare", "has no gate. Write one"),
        ("gate runs/demo --run runs/demo", "leave out --run"),
        ("gate runs/demo --json --markdown -", "give one of them"),
        ("gate runs/against", "there is no assay-baseline.json"),
        ("gate runs/against --baseline b.json", "There is no baseline b.json"),
        ("gate runs/against --baseline study.txt", "cannot be read as a baseline"),
        ("gate runs/demo --junit runs", "runs is a folder"),
        ("compare runs/demo runs/none", "runs/none is not a run directory"),
        ("compare runs/demo runs/demo --json --markdown", "give one"),
        ("baseline save runs/none", "runs/none is not a run directory"),
        ("baseline save s3://bucket/runs/a", "s3://bucket/runs/a lies in a store"),
        ("compare runs/demo s3://bucket/runs/a", "s3://bucket/runs/a lies in a store"),
        ("gate s3://bucket/runs/a", "s3://bucket/runs/a is a URL; expected a study file"),
        ("ls s3://bucket/runs", "One run there: assay show s3://bucket/runs/RUN"),
    ],
)
def test_slips_are_told(place: Workplace, line: str, told: str) -> None:
    run("runs/demo", 600, LIMIT)
    run("runs/against", 600, NOT_WORSE)
    run("runs/bare", 600)
    Path("study.txt").write_text("no JSON")
    said = place.assay(line)
    assert said.code == 2
    assert told in " ".join(said.err.split())


def test_runs_are_compared(place: Workplace) -> None:
    run("runs/old", 600)
    run("runs/new", 540, weights="bbbb")
    told = place.assay("compare runs/old runs/new")
    assert told.code == 0
    assert "1 of 1 robust accuracies got worse" in told.out
    plain = json.loads(place.assay("compare runs/old runs/new --json").out)
    clean, robust = plain["changes"]
    assert (clean["kind"], clean["difference"]) == ("clean", 0)
    assert (robust["newly_broken"], robust["newly_saved"], robust["said"]) == (60, 0, "worse")
    assert robust["newly_broken_ids"][0] == "mnist/test/00540"
    assert [one["class"] for one in robust["classes"]] == [str(c) for c in range(10)]
    assert (
        "| fgsm | 4/255 | 1,000 | 60.0 % | 54.0 % | −6.0 |" in place.assay("compare runs/old runs/new --markdown").out
    )
    place.assay("baseline save runs/old -o b.json")
    assert json.loads(place.assay("compare b.json runs/new --json").out)["changes"] == plain["changes"]


def test_a_page_of_a_comparison(finished: Path, place: Workplace) -> None:
    shutil.copytree(finished / "runs", "runs")
    shutil.copytree("runs/toy", "runs/other")
    told = place.assay("compare runs/toy runs/other --page out/c.html")
    assert (told.code, told.out) == (0, "out/c.html\n")
    assert place.assay("compare runs/toy runs/other --page out/c.html").code == 2
    assert "No robust accuracy" in Path("out/c.html").read_text()


def test_a_run_that_a_command_makes_has_its_gate(place: Workplace) -> None:
    Path("study.yaml").write_text(
        "study: toy\nmodels: [toy.py:linear]\ndata: folder:pictures\nthreats: [{norm: linf, eps: [4/255]}]\n"
        "attacks: [fgsm]\naudit: off\ngate:\n  - {clean_accuracy: '>= 50 %'}\n"
    )
    assert place.assay("run study.yaml --display none").code == 0
    # 18 pictures are too few to report, and meet nothing
    told = place.assay("gate study.yaml")
    assert told.code == 5
    assert "too few to report" in told.out
    # a gate that changed is in the directory after a run that had nothing to do
    Path("study.yaml").write_text(
        Path("study.yaml").read_text().replace("clean_accuracy: '>= 50 %'", "verdict: trusted")
    )
    assert place.assay("run study.yaml --display none").code == 0
    assert "verdict trusted" in place.assay("gate runs/toy").out
