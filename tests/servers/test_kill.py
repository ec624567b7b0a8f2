"""A run that is killed while a real server answers it goes on: no record changes, and little is asked twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.evaluation.execution.options import Options
from assay.evaluation.run_study import run_study
from assay.evaluation.study.yaml_source import load_study
from assay.spending import spent_in
from tests.servers.conftest import Subjects
from tests.servers.counted import Counted
from tests.support.served import Server
from tests.support.studied import records_of, study_of

pytestmark = [pytest.mark.servers, pytest.mark.parametrize("server", ["triton"], indirect=True)]

BATCH, PARALLEL = 4, 2
# rows in flight at a kill, and those that a resumed run asks again to see whether the model is the same
MOST_TWICE = BATCH * PARALLEL + 8


def start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "assay.cli.__main__", "run", str(study), "--out", str(out), "--display", "none"]
    return subprocess.Popen([*command, "--no-doctor"], start_new_session=True, stderr=subprocess.DEVNULL)


def billed(out: Path) -> int:
    return sum(spent.billed for spent in spent_in(out).values())


def test_a_killed_run_goes_on(server: Server, subjects: Subjects, tmp_path: Path) -> None:
    model = f"v2:{server.url}/tiny?batch={BATCH}&parallel={PARALLEL}"
    attack, threat = [{"attack": "square", "queries": 100}], {"norm": "linf", "eps": [0.01, 0.02]}
    study = study_of(tmp_path / "study", model, subjects.pictures, attack, threat)
    whole = run_study(load_study(study), tmp_path / "whole", Options())
    once = Counted.of(server, "tiny").rows
    enough = whole.endpoints()[0]["billed"]

    out = tmp_path / "killed"
    process = start(study, out)
    end = time.monotonic() + 60
    while billed(out) < 0.3 * enough:
        assert process.poll() is None, "the run was over before the kill"
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    resumed = run_study(load_study(study), out, Options())
    assert records_of(resumed) == records_of(whole)
    again = Counted.of(server, "tiny").rows - once
    assert enough <= again <= enough + MOST_TWICE
    assert again <= resumed.endpoints()[0]["billed"] <= enough + MOST_TWICE
