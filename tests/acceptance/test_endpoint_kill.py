"""`kill -9` of a run on an endpoint, 20 times: what was answered is never asked again, and records are the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from assay.evaluation.run import Run
from assay.evaluation.run_study import Options, run_study
from assay.evaluation.study.yaml_source import load_study
from assay.spending import spent_in
from tests.support.serving import Server
from tests.support.tiny import rows, write_pictures
from tests.unit.evaluation.test_endpoints import scores

KILLS, SAMPLES = 20, 16
BATCH, PARALLEL = 4, 3
FLYING = BATCH * PARALLEL
CANARIES = 2

# torch is loaded once: each run is a fork, before any thread is there
LAUNCHER = """
import os, sys, traceback
import assay.evaluation.attack_unit, assay.models.remote.v2, httpx2, orjson
from assay.evaluation.run_study import Options, run_study
from assay.evaluation.study.yaml_source import load_study
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            run_study(load_study(sys.argv[1]), sys.argv[2], Options(workers=int(sys.argv[3]), executor=sys.argv[4]))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Counting:
    """Answers slowly enough to be caught at it, and counts each image."""

    def __init__(self) -> None:
        self.seen: Counter[bytes] = Counter()
        self.sent = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.seen.update(image.tobytes() for image in images)
        self.sent += len(images)
        time.sleep(0.002)
        return scores(images)


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def server(counting: Counting) -> Iterator[Server]:
    served = Server(counting, (3, 8, 8), 4).start()
    yield served
    served.close()


@pytest.fixture
def study_file(server: Server, tmp_path: Path) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"study: kill\nmodels: ['v2:{server.url}/net?batch={BATCH}&parallel={PARALLEL}']\n"
        f"data: '{write_pictures(tmp_path / 'pictures', SAMPLES)}'\nchunk: 4\n"
        "threats: {norm: linf, eps: [8/255, 32/255]}\nattacks: [{attack: square, queries: 40}]\n"
    )
    return file


class Launcher:
    """Starts runs of one study in one directory, one after the other."""

    def __init__(self, study: Path, out: Path, executor: str = "serial") -> None:
        self.errors = (out.parent / "errors").open("wb+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(study), str(out), "2", executor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            text=True,
        )

    def start(self) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        assert self.process.stdout is not None
        return os.waitstatus_to_exitcode(int(self.process.stdout.readline()))

    def close(self) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)
        self.errors.seek(0)
        told = self.errors.read().decode()
        self.errors.close()
        return told


def sent(counting: Counting) -> int:
    return sum(counting.seen.values())


def killed(launcher: Launcher, counting: Counting, moments: random.Random, most: int) -> None:
    """Start a run and kill it after up to `most` rows more than have been answered."""
    goal, end = counting.sent + moments.randint(0, most), time.monotonic() + 240
    child = launcher.start()
    while counting.sent < goal:
        assert time.monotonic() < end, "it asks no more"
        time.sleep(0.005)
    time.sleep(moments.random() * 0.01)
    os.kill(child, signal.SIGKILL)
    assert launcher.wait() == -signal.SIGKILL, "the run was over before the kill"


@pytest.mark.timeout(600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks")
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_20_kills_repeat_what_was_in_flight_and_change_no_record(
    study_file: Path, counting: Counting, server: Server, tmp_path: Path, seed: int
) -> None:
    out, moments = tmp_path / "run", random.Random(seed)
    undisturbed = run_study(load_study(study_file), tmp_path / "undisturbed")
    whole, asked = len(counting.seen), sent(counting)
    assert asked == whole, "nothing is sent twice"
    counting.seen.clear()
    launcher = Launcher(study_file, out)
    for _ in range(KILLS):
        killed(launcher, counting, moments, asked // (KILLS + 4))
    launcher.start()
    code = launcher.wait()
    assert code == 0, launcher.close()
    assert launcher.close() == ""
    run = Run.open(out)
    assert rows(run) == rows(undisturbed) and len(rows(run)) == 2 * SAMPLES
    check = sum(one.billed for (_, place), one in spent_in(out).items() if place == "check")
    repeated = sent(counting) - len(counting.seen)
    assert len(counting.seen) == whole and check <= CANARIES * KILLS
    assert repeated <= FLYING * KILLS + check
    # what a kill cut off counts as billed: the endpoint may have answered it
    (told,) = run.endpoints()
    assert sent(counting) <= told["billed"] <= sent(counting) + FLYING * KILLS
    assert told["billed"] < asked + 2 * FLYING * KILLS


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks")
def test_workers_that_die_with_their_run_lose_no_answer(study_file: Path, counting: Counting, tmp_path: Path) -> None:
    out, moments = tmp_path / "run", random.Random(2)
    undisturbed = run_study(load_study(study_file), tmp_path / "undisturbed")
    counting.seen.clear()
    launcher = Launcher(study_file, out, "processes")
    for _ in range(3):
        killed(launcher, counting, moments, 150)
        # workers see that they are orphans twice a second
        time.sleep(1.5)
    launcher.start()
    assert launcher.wait() == 0, launcher.close()
    launcher.close()
    assert rows(Run.open(out)) == rows(undisturbed)
    # besides, two workers may ask about one image at the same time
    assert sent(counting) - len(counting.seen) <= 3 * (2 * FLYING + CANARIES) + SAMPLES


def test_a_run_goes_on_with_answers_alone(study_file: Path, counting: Counting, tmp_path: Path) -> None:
    run = run_study(load_study(study_file), tmp_path / "run", Options())
    before, recorded = sent(counting), rows(run)
    for part in (tmp_path / "run" / "results").glob("*/part-*.parquet"):
        part.unlink()
    again = run_study(load_study(study_file), tmp_path / "run", Options())
    assert rows(again) == recorded and sent(counting) == before + CANARIES
