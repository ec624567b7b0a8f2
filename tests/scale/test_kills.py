"""`kill -9` at random moments in a real Ray cluster of three nodes: records are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.evaluation.run import Run
from assay.evaluation.run_study import run_study
from assay.evaluation.study.spec import Study
from assay.evaluation.study.yaml_source import load_study
from tests.support.clusters import (
    Driver,
    Trace,
    add_node,
    cluster_of,
    on_the_cluster,
    quiet,
    workers_of,
)
from tests.support.tiny import check_equal, run_here, write_model, write_pictures

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

SAMPLES, CHUNK = 192, 4
UNITS = SAMPLES // CHUNK * 2
MOST_IDLE = 1.0
STUDY = (
    "study: kills\nmodels: {model!r}\ndata: {source!r}\nchunk: {chunk}\n"
    "threats: {{norm: linf, eps: ['0', 4/255, 16/255, 64/255]}}\nattacks: [fgsm, {{attack: pgd, steps: 3}}]\n"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with cluster_of(3) as made:
        yield made


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return Trace(tmp_path_factory.mktemp("trace"))


@pytest.fixture(scope="module")
def file(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    model, source = write_model(folder, trace.hook(0.04)), write_pictures(folder / "pictures", SAMPLES)
    (folder / "study.yaml").write_text(STUDY.format(model=model, source=source, chunk=CHUNK))
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def given(file: Path) -> Study:
    return load_study(file)


@pytest.fixture(scope="module")
def serial(given: Study, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_here(tmp_path_factory.mktemp("serial") / "run", given)


class Killer:
    """Waits in a thread for what it is told to wait for, and kills; a run in this thread goes on meanwhile."""

    def __init__(self, act: Callable[[Callable[[], int]], None], out: Path) -> None:
        self._out, self._act, self._error = out, act, [AssertionError("the run was over before the kill")]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._act(lambda: len(list(self._out.glob("results/*/part-*.parquet"))))
            self._error.clear()
        except AssertionError as error:
            self._error = [error]

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._thread.join(0 if kind else 60)
        if kind is None and self._error:
            raise self._error[0]


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.005)


@quiet
@pytest.mark.parametrize("seed", [0, *(pytest.param(one, marks=pytest.mark.slow) for one in range(1, 5))])
def test_a_node_killed_at_any_moment_costs_nobody_else_a_second(
    cluster: Any, trace: Trace, given: Study, serial: Run, tmp_path: Path, seed: int
) -> None:
    draws, killed_at = random.Random(seed), []
    doomed = draws.choice(workers_of(cluster))

    def kill(shards: Callable[[], int]) -> None:
        goal = draws.randint(6, UNITS // 2)
        # on a busy machine a node may need long until it has work that can be lost
        until(lambda: shards() >= (goal if trace.living() == 3 else UNITS * 5 // 8))
        time.sleep(draws.random() * 0.3)
        killed_at.append(time.monotonic())
        cluster.remove_node(doomed, allow_graceful=False)
        assert shards() < UNITS * 3 // 4, "too late to tell who waits"

    try:
        with Killer(kill, tmp_path / "run"):
            run = run_study(given, tmp_path / "run", on_the_cluster(cluster))
    finally:
        add_node(cluster)
        cluster.wait_for_nodes()
    check_equal(run, serial)
    assert (run.path / "log").read_text().count("lost its worker on node") == 1
    idle = trace.longest_idle(killed_at[0])
    print(f"node killed, seed {seed}: the others were idle for {idle:.2f} s at most")
    assert 0 < idle <= MOST_IDLE


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_twenty_workers_killed_in_the_middle_of_a_unit(
    cluster: Any, trace: Trace, given: Study, serial: Run, tmp_path: Path, seed: int
) -> None:
    draws, killed_at = random.Random(seed), []

    def kill(shards: Callable[[], int]) -> None:
        for _ in range(5):
            # a lost unit comes first in the row, so that none is lost twice
            goal = shards() + draws.randint(4, 10)
            until(lambda goal=goal: shards() >= goal)
            time.sleep(draws.random() * 0.3)
            until(lambda: bool(trace.in_a_pass()))
            os.kill(draws.choice(trace.in_a_pass()), signal.SIGKILL)
            killed_at.append(time.monotonic())

    with Killer(kill, tmp_path / "run"):
        run = run_study(given, tmp_path / "run", on_the_cluster(cluster))
    check_equal(run, serial)
    assert (run.path / "log").read_text().count("lost its worker on node") == len(killed_at) == 5
    idle = max(map(trace.longest_idle, killed_at))
    print(f"5 workers killed, seed {seed}: the others were idle for {idle:.2f} s at most")
    assert 0 < idle <= MOST_IDLE


@quiet
@pytest.mark.slow
def test_twenty_killed_drivers(cluster: Any, file: Path, given: Study, serial: Run, tmp_path: Path) -> None:
    driver, draws = Driver(file, tmp_path / "run"), random.Random(0)
    had = []
    for kill in range(20):
        process = driver.start(cluster.address)
        if kill % 4 == 0:
            # anywhere in its start
            time.sleep(draws.random() * 8)
        else:
            driver.wait_for_shards(process, driver.shards + draws.randint(0, 4))
            time.sleep(draws.random() * 0.3)
        assert process.poll() is None, driver.errors.read_text()
        process.kill()
        process.wait(20)
        had.append(driver.shards)
    assert 0 < had[-1] < UNITS, f"nothing was left for the last one: {had}"
    print(f"units done after each of 20 kills: {had}")
    check_equal(run_study(given, tmp_path / "run", on_the_cluster(cluster)), serial)


@quiet
@pytest.mark.slow
def test_a_lost_head_ends_the_run_and_another_cluster_goes_on(
    cluster: Any, file: Path, serial: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray's processes wait a minute for a lost head, in which workers go on: too long for a run that must be cut off
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "3")
    driver = Driver(file, tmp_path / "run")
    with cluster_of(2) as lost:
        process = driver.start(lost.address)
        driver.wait_for_shards(process, 4)
        began = time.monotonic()
        lost.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        code = process.wait(180)
    monkeypatch.delenv("RAY_gcs_rpc_server_reconnect_timeout_s")
    print(f"head lost: exit code {code} after {time.monotonic() - began:.0f} s; {driver.errors.read_text()[-1000:]}")
    assert code != 0 and 4 <= driver.shards < UNITS
    process = driver.start(cluster.address)
    assert process.wait(240) == 0, driver.errors.read_text()
    check_equal(Run.open(tmp_path / "run"), serial)
