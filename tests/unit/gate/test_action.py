"""The steps of the GitHub Action, run as a workflow runs them; the hooks of pre-commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.workplace import make_workplace

ROOT = Path(__file__).parents[3]
# what stands in the place of assay: it notes how it was called, and returns what it is told to
STUB = """#!/bin/sh
echo "$@" >> calls
case "$1" in run) exit ${RUN_CODE:-0} ;; gate) echo "<skipped" > assay-gate.xml; exit ${GATE_CODE:-0} ;; esac
"""


def steps() -> dict[str, dict[str, Any]]:
    action = YAML(typ="safe").load((ROOT / "action.yml").read_text())
    return {step["name"]: step for step in action["runs"]["steps"]}


def step(name: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the shell of a step as GitHub does: with bash, ending at the first failure."""
    inputs = {"STUDY": "study.yaml", "ARGS": "", "BASELINE": "", "ON_UNSURE": "fail", **environment}
    path = f"{folder}:{os.environ['PATH']}"
    files = {"GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps()[name]["run"]],
        cwd=folder, env={**os.environ, **files, **inputs, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def program(folder: Path, text: str) -> None:
    path = folder / "assay"
    path.write_text(text)
    path.chmod(0o755)


def test_inputs_reach_the_shell_by_the_environment_alone() -> None:
    for name, one in steps().items():
        # an expression inside a script is code to whoever writes a branch name
        assert "${{" not in one.get("run", ""), name


@pytest.mark.parametrize(
    ("code", "on_unsure", "answer"),
    [(0, "fail", "met"), (4, "fail", "missed"), (5, "fail", "cannot tell"), (0, "pass", "cannot tell")],
)
def test_the_gate_tells_its_answer(tmp_path: Path, code: int, on_unsure: str, answer: str) -> None:
    program(tmp_path, STUB)
    done = step("Gate", tmp_path, GATE_CODE=str(code), ON_UNSURE=on_unsure, BASELINE="a b.json")
    assert done.returncode == code
    assert (tmp_path / "output").read_text() == f"answer={answer}\n"
    assert "--baseline a b.json" in (tmp_path / "calls").read_text()


def test_a_slip_is_no_answer(tmp_path: Path) -> None:
    program(tmp_path, STUB)
    assert step("Gate", tmp_path, GATE_CODE="2").returncode == 2
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(("code", "left"), [(0, 0), (3, 0), (1, 1), (2, 2)])
def test_a_run_with_some_errors_goes_on_to_the_gate(tmp_path: Path, code: int, left: int) -> None:
    program(tmp_path, STUB)
    assert step("Run", tmp_path, RUN_CODE=str(code), ARGS="--workers 2").returncode == left
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "run study.yaml --out assay-run --display plain --workers 2"
    assert calls[1:] == (["report assay-run"] if left == 0 else [])


@pytest.mark.parametrize(("install", "asked"), [("action", ["/actions/a b"]), ("assay[onnx] x", ["assay[onnx]", "x"])])
def test_the_action_installs_its_own_assay(tmp_path: Path, install: str, asked: list[str]) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor one; do echo "$one"; done >> calls\n')
    python.chmod(0o755)
    action = YAML(typ="safe").load((ROOT / "action.yml").read_text())
    # a name alone would be asked of PyPI, where it is not Assay's
    assert action["inputs"]["install"]["default"] == "action"
    done = step("Install", tmp_path, INSTALL=install, TORCH_INDEX="", GITHUB_ACTION_PATH="/actions/a b")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().splitlines() == ["-m", "pip", "install", "--quiet", *asked]


def test_the_hooks_call_commands_that_exist() -> None:
    hooks = {one["id"]: one for one in YAML(typ="safe").load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    assert set(hooks) == {"assay-validate", "assay-gate"}
    assert {one["language"] for one in hooks.values()} == {"system"}


@pytest.mark.slow
def test_a_worse_model_fails_the_workflow(tmp_path: Path) -> None:
    make_workplace(tmp_path)
    # enough pictures to be reported
    for label in range(3):
        for i in range(6):
            for copy in range(6):
                source = tmp_path / "pictures" / str(label) / f"{i}.png"
                shutil.copy(source, source.with_name(f"{i}-{copy}.png"))
    program(tmp_path, f'#!/bin/sh\nexec {sys.executable} -m assay.cli "$@"\n')
    study = (
        "study: toy\nmodels: [MODEL]\ndata: folder:pictures\nthreats: [{norm: linf, eps: [4/255]}]\nattacks: [fgsm]\n"
        "audit: off\ngate:\n  - {robust_accuracy: '>= 50 %', verdict: any}\n"
        "  - {against: baseline, robust_accuracy: not worse by more than 5 points}\n"
    )
    (tmp_path / "study.yaml").write_text(study.replace("MODEL", "toy.py:linear"))
    assert step("Run", tmp_path).returncode == 0
    subprocess.run([tmp_path / "assay", "baseline", "save", "assay-run"], cwd=tmp_path, check=True, capture_output=True)
    done = step("Gate", tmp_path)
    assert (done.returncode, (tmp_path / "output").read_text()) == (0, "answer=met\n"), done.stderr
    shutil.rmtree(tmp_path / "assay-run")
    (tmp_path / "study.yaml").write_text(study.replace("MODEL", "toy.py:swapped"))
    assert step("Run", tmp_path).returncode == 0
    done = step("Gate", tmp_path)
    assert done.returncode == 4, done.stderr
    assert (tmp_path / "output").read_text().endswith("answer=missed\n")
    assert "missed" in (tmp_path / "summary.md").read_text()
