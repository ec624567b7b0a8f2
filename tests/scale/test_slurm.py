"""A real Slurm of one node: a job array on one run directory, of which a task is killed."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.evaluation.execution.lock import Holder
from assay.evaluation.execution.parts import lock_of
from assay.evaluation.execution.share import Share
from assay.evaluation.run import Run
from assay.evaluation.run_study import run_study
from assay.evaluation.study.yaml_source import load_study
from tests.support.slurm import Slurm, missing, slurm
from tests.support.tiny import check_equal, shards, write_model, write_pictures

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

SAMPLES, CHUNK, TASKS = 192, 4, 4
UNITS = 2 * SAMPLES // CHUNK


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    if why := missing():
        if "scale" in os.environ.get("ASSAY_REQUIRE", ""):
            pytest.fail(why)
        pytest.skip(why)
    with slurm(cpus=TASKS) as made:
        yield made


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slurm")
    model = write_model(folder / "model", "time.sleep(0.02)")
    source, file = write_pictures(folder / "pictures", SAMPLES), folder / "study.yaml"
    file.write_text(
        f"study: slurm\nmodels: [{model!r}]\ndata: {source!r}\nchunk: {CHUNK}\naudit: off\n"
        "threats: {norm: linf, eps: [0, 8/255, 32/255]}\nattacks: [fgsm, {attack: pgd, steps: 5}]\n"
    )
    return file


@pytest.fixture(scope="module")
def serial(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_study(load_study(study_file), tmp_path_factory.mktemp("serial") / "run")


def script(study: Path, out: Path, share: str = "slurm") -> str:
    line = ["run", str(study), "--out", str(out), "--share", share, "--no-doctor", "--display", "none"]
    assay = f"{shlex.quote(sys.executable)} -m assay.cli"
    # the share may name a variable of the task
    return f"#!/bin/sh\nexport OMP_NUM_THREADS=1\nexec {assay} {' '.join(line)}\n"


@pytest.mark.parametrize("seed", [0, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 2, 3, 4))])
def test_an_array_with_a_killed_task_ends_in_the_records_of_a_serial_run(
    cluster: Slurm, study_file: Path, serial: Run, tmp_path: Path, seed: int
) -> None:
    moments, out = random.Random(seed), tmp_path / "run"
    doomed = Share(moments.randint(1, TASKS), TASKS)
    job = cluster.submit(script(study_file, out), f"1-{TASKS}", wait=False)
    lock, end = lock_of(out, doomed), time.monotonic() + 200
    goal = moments.randint(1, UNITS // 3)
    # it has its lock when it begins, and its process is of this machine
    while shards(out) < goal or not lock.exists() or (holder := Holder.of(lock.read_bytes())) is None:
        assert time.monotonic() < end, cluster.said(job)
        time.sleep(0.02)
    os.kill(holder.pid, signal.SIGKILL)
    cluster.ended(job)
    assert Run.open(out).status == "started", "nobody says that it is finished"
    assert shards(out) < UNITS
    # the killed task alone, or all of the array, whose others have nothing to do
    if seed % 2 == 0:
        again = cluster.submit(script(study_file, out, f"$SLURM_ARRAY_TASK_ID/{TASKS}"), str(doomed.number))
    else:
        again = cluster.submit(script(study_file, out), f"1-{TASKS}")
    check_equal(Run.open(out), serial)
    warnings = json.loads((out / "manifest.json").read_text())["warnings"]
    assert "A share was killed; another process went on from its finished shards." in warnings, cluster.said(again)


def test_tasks_that_cannot_tell_their_share_say_so(cluster: Slurm, study_file: Path, tmp_path: Path) -> None:
    job = cluster.submit(script(study_file, tmp_path / "run"), "1,2,4")
    said = cluster.said(job)
    assert said.count("the 3 tasks of this job array, from 1 to 4, are not evenly spaced") == 3
    assert not shards(tmp_path / "run")
