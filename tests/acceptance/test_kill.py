"""`kill -9` at random moments: whatever is killed, the same command ends with the records of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.evaluation.run import Run
from assay.evaluation.run_study import run_study
from assay.evaluation.study.yaml_source import load_study
from tests.support.tiny import rows, shards, write_model, write_pictures

PAUSE = "time.sleep(0.01)"
SAMPLES, SHARDS = 96, 48
# this one kills the run, and the others a worker of it now and then
QUICK = (1,)
SCRIPT = """
import sys
from assay.evaluation.run_study import Options, run_study
from assay.evaluation.study.yaml_source import load_study
run_study(load_study(sys.argv[1]), sys.argv[2], Options(executor="processes", workers=2))
"""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    model, source = write_model(folder / "model", PAUSE), write_pictures(folder / "pictures", SAMPLES)
    file = folder / "study.yaml"
    file.write_text(
        f"study: kill\nmodels: [{model!r}]\ndata: {source!r}\nchunk: 4\n"
        "threats: {norm: linf, eps: [0, 8/255, 32/255]}\n"
        "attacks: [fgsm, {attack: pgd, steps: 5}]\n"
    )
    return file


def start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    out.parent.mkdir(parents=True, exist_ok=True)
    with (out.parent / f"{out.name}.err").open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(study), str(out)],
            stderr=errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def children(process: subprocess.Popen[bytes]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in listed]


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for(what: str, condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} in {seconds} s"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    # in this process: three that import torch take far longer, and test_executors.py compares the two
    return run_study(load_study(study_file), tmp_path_factory.mktemp("undisturbed") / "run")


def kill_once(study: Path, out: Path, moments: random.Random) -> None:
    """Kill a run at a random moment between its start and its end; a worker of it every third time."""
    process = start(study, out)
    goal, worker = moments.randint(0, SHARDS - 6), moments.random() < 1 / 3
    wait_for("shard", lambda: process.poll() is not None or (shards(out) >= goal and (not worker or children(process))))
    time.sleep(moments.random() * 0.1)
    assert process.poll() is None, "the run was over before the kill"
    crew = children(process)
    if worker:
        os.kill(moments.choice(crew), signal.SIGKILL)
        assert process.wait(120) == 0, "a run outlives its workers"
        return
    process.kill()
    process.wait(20)
    wait_for("end of the orphans", lambda: not any(alive(pid) for pid in crew), 20)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for orphans in /proc")
@pytest.mark.parametrize(
    "seed", [seed if seed in QUICK else pytest.param(seed, marks=pytest.mark.slow) for seed in range(20)]
)
def test_a_killed_run_resumes_to_the_same_records(
    study_file: Path, undisturbed: Run, tmp_path: Path, seed: int
) -> None:
    out = tmp_path / "run"
    kill_once(study_file, out, random.Random(seed))
    if seed in QUICK:
        run_study(load_study(study_file), out)
    else:
        assert start(study_file, out).wait(120) == 0
    run = Run.open(out)
    found, expected = rows(run), rows(undisturbed)
    assert len(found) == len(expected) == SAMPLES * 3 * 2
    assert len({(row["cell"], row["eps"], row["sample_id"]) for row in found}) == len(found), "a record twice"
    assert found == expected
    assert run.status == "success"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for orphans in /proc")
def test_ctrl_c_stops_at_once_and_the_same_command_continues(
    study_file: Path, undisturbed: Run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(study_file, out)
    wait_for("shard", lambda: shards(out) >= 3)
    crew = children(process)
    assert len(crew) == 2
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert time.monotonic() - began < 5, "Ctrl-C took long"
    assert process.returncode not in (0, None) and not any(alive(pid) for pid in crew)
    stopped = Run.open(out)
    assert stopped.status == "cancelled" and 3 <= shards(out) < SHARDS
    assert rows(run_study(load_study(study_file), out)) == rows(undisturbed)
