"""Shares of a run as processes in one directory: whatever is killed, the records are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.evaluation.execution.options import Options
from assay.evaluation.execution.parts import read_parts
from assay.evaluation.execution.share import Share
from assay.evaluation.run import Run
from assay.evaluation.run_study import run_study
from assay.evaluation.study.yaml_source import load_study
from tests.support.tiny import check_equal, shards, write_model, write_pictures

ROOT = Path(__file__).parents[2]
PAUSE = "time.sleep(0.01)"
SAMPLES, SHARDS, SHARES = 96, 48, 3
QUICK = (0,)
# `skew` moves every clock that Python reads; a whole run has no share
SCRIPT = """
import datetime, sys, time
study, out, share, skew = sys.argv[1:]
real, clock = time.time, datetime.datetime
class Skewed(clock):
    @classmethod
    def now(cls, tz=None):
        return clock.now(tz) + datetime.timedelta(seconds=float(skew))
if float(skew):
    time.time = lambda: real() + float(skew)
    datetime.datetime = Skewed
from assay.core.errors import AssayError
from assay.evaluation.run_study import Options, run_study
from assay.evaluation.study.yaml_source import load_study
try:
    run_study(load_study(study), out, Options(share=share or None))
except AssayError as error:
    sys.exit(str(error))
"""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shares")
    model, source = write_model(folder / "model", PAUSE), write_pictures(folder / "pictures", SAMPLES)
    file = folder / "study.yaml"
    file.write_text(
        f"study: shares\nmodels: [{model!r}]\ndata: {source!r}\nchunk: 4\n"
        "threats: {norm: linf, eps: [0, 8/255, 32/255]}\n"
        "attacks: [fgsm, {attack: pgd, steps: 5}]\n"
    )
    return file


@pytest.fixture(scope="module")
def undisturbed(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_study(load_study(study_file), tmp_path_factory.mktemp("undisturbed") / "run")


def start(study: Path, out: Path, share: str = "", skew: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(study), str(out), share, str(skew)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, told = process.communicate(timeout=150)
    return process.returncode, told


@pytest.mark.parametrize(
    "seed", [seed if seed in QUICK else pytest.param(seed, marks=pytest.mark.slow) for seed in range(20)]
)
def test_a_killed_share_is_done_by_whoever_runs_next(
    study_file: Path, undisturbed: Run, tmp_path: Path, seed: int
) -> None:
    moments, out = random.Random(seed), tmp_path / "run"
    # one clock is an hour ahead of the others
    crew = {number: start(study_file, out, f"{number}/{SHARES}", 3600.0 * (number == 2)) for number in (1, 2, 3)}
    goal, doomed = moments.randint(0, SHARDS // 3), moments.randint(1, SHARES)
    while shards(out) < goal and crew[doomed].poll() is None:
        time.sleep(0.01)
    time.sleep(moments.random() * 0.1)
    crew[doomed].kill()
    killed = end(crew[doomed])[0] == -9
    for number, process in crew.items():
        assert number == doomed or end(process) == (0, "")
    if killed:
        assert Run.open(out).status == "started", "nobody says that it is finished"
        assert shards(out) < SHARDS
        # the same share again, or a run of all that is left
        assert end(start(study_file, out, f"{doomed}/{SHARES}" if seed % 2 == 0 else "")) == (0, "")
    check_equal(Run.open(out), undisturbed)
    if killed and seed in QUICK:
        assert {one["status"] for one in read_parts(out).values()} == {"success"}


def test_who_comes_beside_shares_is_told_who_they_are(study_file: Path, undisturbed: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = start(study_file, out, "1/2", skew=3600.0)
    while not shards(out):
        assert first.poll() is None, end(first)
        time.sleep(0.01)
    study = load_study(study_file)
    named = rf"{out} is being written by share 1/2 \(process {first.pid} on "
    with pytest.raises(BadInput, match=named + r".*assay gather"):
        run_study(study, out)
    with pytest.raises(BadInput, match=named + ".*Wait for it"):
        run_study(study, out, Options(share="1/2"))
    with pytest.raises(BadInput, match=named + r".*: a division into 2 shares, and this one would be 2/3\."):
        run_study(study, out, Options(share="2/3"))
    other = study.model_copy(update={"grids": tuple(g.model_copy(update={"seed": 7}) for g in study.grids)})
    with pytest.raises(BadInput, match=r"belongs to another study \(seed 7 here, seed 0 there\)"):
        run_study(other, out, Options(share="2/2"))
    assert first.poll() is None
    run_study(study, out, Options(share="2/2"))
    assert end(first) == (0, "")
    check_equal(Run.open(out), undisturbed)


def test_shares_are_refused_beside_a_whole_run(study_file: Path, undisturbed: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    whole = start(study_file, out)
    while not shards(out):
        assert whole.poll() is None, end(whole)
        time.sleep(0.01)
    with pytest.raises(BadInput, match=rf"is being written by process {whole.pid} on "):
        run_study(load_study(study_file), out, Options(share="1/2"))
    assert end(whole) == (0, "")
    check_equal(Run.open(out), undisturbed)
    # what is finished is left as it is
    before = (out / "manifest.json").read_bytes()
    run_study(load_study(study_file), out, Options(share="1/2"))
    assert (out / "manifest.json").read_bytes() == before
    assert json.loads(before)["status"] == "success"
    assert read_parts(out)[Share(1, 2)]["units"] == SHARDS // 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(("rounds", "shares"), [(2, 8), pytest.param(10, 12, marks=pytest.mark.slow)])
def test_many_shares_may_start_at_one_moment(tmp_path: Path, rounds: int, shares: int) -> None:
    line = [sys.executable, "-W", "ignore", "-m", "tests.support.many_shares", str(tmp_path), str(rounds), str(shares)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=900, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("equal") == rounds
