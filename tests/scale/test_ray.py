"""A real Ray cluster of three nodes on this machine, and what happens when parts of it die."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import AssayError, BadInput
from assay.evaluation.execution.options import Options
from assay.evaluation.executors import Job, Ray
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.run import Run
from assay.evaluation.run_study import RunFailed, run_study
from assay.evaluation.study.spec import Study
from tests.support.serving import Server
from tests.support.tiny import check_equal, images, rows, run_here, study, write_model, write_pictures
from tests.unit.evaluation.test_endpoints import LINF, SQUARE, asking, scores

pytestmark = [pytest.mark.scale, pytest.mark.timeout(240)]

SAMPLES, CHUNK = 48, 4
_FIRST = [float(image[0, 0, 0]) for image in images(SAMPLES)[0]]
MARKED = next(value for value in _FIRST if _FIRST.count(value) == 1)
SEES_MARKED = f"bool((abs(x[:, 0, 0, 0] - {MARKED!r}) < 1e-6).any())"
PAUSE = "time.sleep(0.03)"
SCRIPT = """
import sys
from assay.evaluation.run_study import Options, run_study
from assay.evaluation.study.yaml_source import load_study
run_study(load_study(sys.argv[1]), sys.argv[2], Options(executor="ray", address=sys.argv[3] or None, workers=2))
"""

# Ray's own: what it leaves open when it ends is closed by the collector of garbage
quiet = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without workers, and two nodes of one core."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        for _ in range(2):
            add_node(made)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


def add_node(cluster: Any, **more: Any) -> Any:
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    return cluster.add_node(**{**small, **more})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pictures(tmp_path_factory.mktemp("pictures"), SAMPLES)


def given(model: str, source: str) -> Study:
    return study(model, source, attacks=["fgsm", {"attack": "pgd", "steps": 3}], chunk=CHUNK)


@pytest.fixture(scope="module")
def paused(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"), PAUSE)


@pytest.fixture(scope="module")
def serial(paused: str, source: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_here(tmp_path_factory.mktemp("serial") / "run", given(paused, source))


def on_the_cluster(cluster: Any, **more: Any) -> Options:
    return Options(executor="ray", address=cluster.address, **more)


@quiet
def test_actors_that_are_killed_are_replaced(
    cluster: Any, source: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # each marked image kills the worker that first sees it, in the middle of a unit
    marked = _FIRST[::8]
    once = tmp_path / "once"
    once.mkdir()
    hook = (
        f"found = [m for m in {marked!r} if bool((abs(x[:, 0, 0, 0] - m) < 1e-6).any())]\n"
        f"    new = [m for m in found if not os.path.exists({str(once)!r} + f'/{{m}}')]\n"
        f"    if new: open({str(once)!r} + f'/{{new[0]}}', 'w').close(); os.kill(os.getpid(), 9)"
    )
    model = write_model(tmp_path / "model", hook)
    run = run_study(given(model, source), tmp_path / "run", on_the_cluster(cluster))
    assert len(list(once.iterdir())) == len(marked) == 6
    # every one has its marker now: this process lives
    check_equal(run, run_here(tmp_path / "serial", given(model, source)))
    assert (run.path / "log").read_text().count("lost its worker") == 6
    assert "raylet" not in capfd.readouterr().out, "Ray prints on standard output"


@quiet
def test_a_unit_that_kills_its_workers_becomes_error_records(cluster: Any, source: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", f"os.kill(os.getpid(), 9) if {SEES_MARKED} else None")
    tiny = study(model, source, attacks="fgsm", chunk=CHUNK)
    run = run_study(tiny, tmp_path / "run", on_the_cluster(cluster))
    errors = [row for row in rows(run) if row["status"] == "error"]
    assert len(errors) == CHUNK * 4 and len(rows(run)) == SAMPLES * 4
    assert re.match(r"The worker process died \(.*out of memory\?\), at each of 3 tries", errors[0]["error"])


@quiet
def test_a_node_with_other_weights_is_refused(cluster: Any, source: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    path = tmp_path / "model" / "tiny_model.py"
    path.write_text(path.read_text().replace("PATTERNS.mean(0))", "float(os.environ.get('OTHER_WEIGHTS', 0)))"))
    refused = pytest.raises(BadInput, match=r"On node \S+: .*A model must be the same each time")
    with another_node(cluster, {"OTHER_WEIGHTS": "0.5"}), refused:
        run_study(given(model, source), tmp_path / "run", on_the_cluster(cluster))
    # the same command goes on when that node is gone
    run = run_study(given(model, source), tmp_path / "run", on_the_cluster(cluster))
    check_equal(run, run_here(tmp_path / "serial", given(model, source)))


@contextlib.contextmanager
def another_node(cluster: Any, environment: dict[str, str]) -> Iterator[None]:
    node = add_node(cluster, env_vars=environment)
    cluster.wait_for_nodes()
    try:
        yield
    finally:
        cluster.remove_node(node)


@quiet
def test_stopping_early_ends_the_actors_and_leaves_the_cluster(cluster: Any, source: str, tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    model = write_model(tmp_path / "model", f"time.sleep(0.05); open({str(beats)!r}, 'a').write('.')")
    (tmp_path / "run").mkdir()
    loader = Loader()
    units = make_plan(study(model, source, chunk=2), loader).units
    answers = Ray(2, cluster.address).run(units, Job(tmp_path / "run", loader))
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # a generator
    time.sleep(0.5)
    alive = beats.stat().st_size
    time.sleep(0.5)
    assert beats.stat().st_size == alive
    import ray

    assert not ray.is_initialized()
    assert [path.name for path in (tmp_path / "run").iterdir()] == []


@quiet
def test_a_run_ends_where_no_worker_finds_room(cluster: Any, paused: str, source: str, tmp_path: Path) -> None:
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:

        @ray.remote(num_cpus=1)
        class Squatter:
            def here(self) -> bool:
                return True

        squatters = [Squatter.remote() for _ in range(2)]
        assert all(ray.get([one.here.remote() for one in squatters], timeout=60))
        options = Options(executor=Ray(address=cluster.address, patience=3))
        with pytest.raises(AssayError, match=r"started no worker for 3 s; it has 2 CPU \(0 free\)"):
            run_study(given(paused, source), tmp_path / "run", options)
        assert ray.is_initialized(), "a connection that was there stays"
    finally:
        ray.shutdown()


def test_an_address_without_a_cluster_is_said(paused: str, source: str, tmp_path: Path) -> None:
    for address in ("nowhere", "127.0.0.1:9", "ray://127.0.0.1:9"):
        with pytest.raises(BadInput, match=r"No Ray cluster could be used at .*ray start --head"):
            run_study(given(paused, source), tmp_path / "run", Options(executor="ray", address=address))


def script(tmp_path: Path, model: str, source: str, address: str) -> Callable[[], subprocess.Popen[bytes]]:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"study: tiny\nmodels: {model!r}\ndata: {source!r}\nchunk: {CHUNK}\n"
        "threats: {norm: linf, eps: ['0', 4/255, 16/255, 64/255]}\nattacks: [fgsm, {attack: pgd, steps: 3}]\n"
    )
    command = [sys.executable, "-c", SCRIPT, str(file), str(tmp_path / "run"), address]

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "err").open("ab") as errors:
            return subprocess.Popen(
                command,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    return start


def wait_for_shards(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    end = time.monotonic() + 120
    while len(list(out.glob("results/*/part-*.parquet"))) < count:
        assert process.poll() is None and time.monotonic() < end, (out.parent / "err").read_text()
        time.sleep(0.01)


def processes_of(session: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.add(int(stat.parent.name))
    return found


@quiet
def test_a_killed_driver_is_started_again_and_goes_on(
    cluster: Any, paused: str, source: str, serial: Run, tmp_path: Path
) -> None:
    start = script(tmp_path, paused, source, cluster.address)
    for shards in (3, 9):
        process = start()
        wait_for_shards(process, tmp_path / "run", shards)
        process.kill()
        process.wait(20)
    run = run_study(given(paused, source), tmp_path / "run", on_the_cluster(cluster))
    check_equal(run, serial)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_local_cluster_ends_with_its_driver(
    paused: str, source: str, serial: Run, tmp_path: Path, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    start = script(tmp_path, paused, source, "")
    process = start()
    wait_for_shards(process, tmp_path / "run", 4)
    # Ctrl-C reaches the whole group that stands in the foreground
    os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()
    assert process.wait(30) == -how
    # the agents of Ray that do no work look for their parent now and then
    end = time.monotonic() + 90
    while left := processes_of(process.pid):
        assert time.monotonic() < end, f"{left} outlive the run"
        time.sleep(0.1)
    assert start().wait(120) == 0, (tmp_path / "err").read_text()
    check_equal(Run.open(tmp_path / "run"), serial)
    assert not list(home.iterdir()), "Ray leaves files in the home directory"


@quiet
def test_what_an_endpoint_answers_is_counted_for_all_workers(source: str, tmp_path: Path, cluster: Any) -> None:
    server = Server(scores, (3, 8, 8), 4).start()
    try:
        asked = study(asking(server), source, attacks=[SQUARE], threats=LINF, chunk=8)
        expected = run_here(tmp_path / "serial", asked)
        run = run_study(asked, tmp_path / "run", on_the_cluster(cluster))
    finally:
        server.close()
    check_equal(run, expected)
    (told,), (before,) = run.endpoints(), expected.endpoints()
    assert told["asked"] == before["asked"] > 0 and told["billed"] >= before["billed"]
    assert not list((tmp_path / "run").rglob("shared-*"))


@quiet
def test_hopeless_models_end_the_run(source: str, tmp_path: Path, cluster: Any) -> None:
    model = write_model(tmp_path / "model", "os.kill(os.getpid(), 9) if x[0, 0, 0, 0] > -1 else None")
    with pytest.raises(RunFailed, match="failed before any of its samples"):
        run_study(study(model, source, attacks="fgsm", chunk=24), tmp_path / "run", on_the_cluster(cluster))
