"""What reads a finished run says the same where torch is not to be had: it takes longer to import than to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assay.evaluation.methods import told_method
from assay.evaluation.records.manifest import read_manifest, write_manifest
from assay.evaluation.run import Run
from tests.support.fake_run import fake_run
from tests.support.gated import Fate, fates, gated
from tests.support.workplace import RUN, Workplace

CHILD = """
import contextlib, io, json, sys
if {blocked}:
    sys.modules["torch"] = sys.modules["torchvision"] = None
from assay.cli import main
told = []
for line in {lines!r}:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(line.split())
        except SystemExit as left:
            code = int(left.code or 0)
    told.append((line, code, out.getvalue(), err.getvalue()))
print(json.dumps(told))
"""

FORMS = ("", " --json", " --format md", " --format latex", " --format csv", " --over queries", " --over steps --json")


def answers(lines: list[str], *, blocked: bool) -> Any:
    child = [sys.executable, "-c", CHILD.format(blocked=blocked, lines=lines)]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    return json.loads(subprocess.run(child, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.fixture
def made(place: Workplace) -> Workplace:
    """A real run with a composed attack and an audit, one half of another, one for the gate, and one of many kinds."""
    real = f"{RUN} --no-doctor --attack cascade --out runs/real"
    assert place.assay(real).code == 0
    assert place.assay(f"{RUN} --no-doctor --out runs/half --set chunk=3 --share 1/3").code == 0
    gated(Path("runs/gated"), Fate({"4/255": fates(600, 400)}), gate=[{"robust_accuracy": ">= 40 %", "verdict": "any"}])
    gated(Path("runs/before"), Fate({"4/255": fates(610, 390)}))
    fake_run(Path("runs/fake"), digits=60)
    return place


def test_reading_needs_no_torch(made: Workplace) -> None:
    runs = ("runs/real", "runs/gated", "runs/fake")
    lines = [
        "ls", "ls --json", "gate runs/gated", "gate runs/gated --json", "gate runs/gated --markdown -",
        "gate runs/real", "compare runs/before runs/gated", "compare runs/before runs/gated --json",
        "compare runs/before runs/gated --format md", "baseline save runs/gated --out b.json --force",
        "gather runs/real", "gather runs/gated --json", "export numbers runs/real --to json --out o.json --force",
        *(f"show {run}{form}" for run in runs for form in FORMS),
    ]  # fmt: skip
    without, there = answers(lines, blocked=True), answers(lines, blocked=False)
    for one, other in zip(without, there, strict=True):
        assert one == other
        assert "Traceback" not in one[3] and "Assay itself failed" not in one[3], one
    # and they do say something
    said = {line: (code, out) for line, code, out, _ in without}
    assert said["gate runs/gated"][0] == 0 and said["gate runs/gated"][1].startswith("MET")
    assert "cascade" in said["show runs/real"][1] and "after each stage: pgd-margin" in " ".join(
        said["show runs/real"][1].split()
    )
    assert said["gate runs/real"][0] == 2, "it has no gate"


def test_a_run_of_an_earlier_version_says_the_same(made: Workplace) -> None:
    run = Run.open("runs/real")
    stages, efforts = run.stages(), run.efforts("queries")
    assert stages and {one.name for one in stages}
    manifest = read_manifest(Path("runs/real"))
    assert manifest["methods"] == {digest: told_method(cell) for digest, cell in run.cells.items()}
    del manifest["methods"]
    write_manifest(Path("runs/real"), manifest)
    old = Run.open("runs/real")
    assert (old.stages(), old.efforts("queries")) == (stages, efforts)
