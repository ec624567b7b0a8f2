"""Nodes that are not as the others are, in a real Ray cluster: full disks, wrong clocks, other parts and devices."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import AssayError, BadInput
from assay.evaluation.run import Run
from assay.evaluation.run_study import RunFailed, run_study
from assay.evaluation.study.yaml_source import load_study
from assay.files import DiskError
from tests.support.clusters import Driver, another_node, cluster_of, on_the_cluster, quiet
from tests.support.tar_shards import write_tar
from tests.support.tiny import check_equal, images, rows, run_here, study, write_model, write_pictures

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

SAMPLES, CHUNK = 48, 4
PAUSE = "time.sleep(0.03)"
CLOCK = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "faketime" / "libfaketime.so.1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with cluster_of(2) as made:
        yield made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pictures(tmp_path_factory.mktemp("pictures"), SAMPLES)


@pytest.fixture
def file(source: str, tmp_path: Path) -> Path:
    model = write_model(tmp_path / "model", PAUSE)
    path = tmp_path / "study.yaml"
    path.write_text(
        f"study: odd\nmodels: {model!r}\ndata: {source!r}\nchunk: {CHUNK}\n"
        "threats: {norm: linf, eps: ['0', 4/255, 16/255, 64/255]}\nattacks: [fgsm, {attack: pgd, steps: 3}]\n"
    )
    return path


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(*arguments: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
    return False


def fill(folder: Path) -> None:
    """Fill the disk that a folder lies on."""
    with contextlib.suppress(OSError), (folder / "filling").open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    with pytest.raises(OSError, match="No space left"):
        (folder / "more").write_bytes(b"\0" * 4096)


@contextlib.contextmanager
def alone(cluster: Any, environment: dict[str, str]) -> Iterator[None]:
    """Start a node that differs in its environment, and leave no room on the others."""
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:

        @ray.remote(num_cpus=1)
        class Squatter:
            def here(self) -> bool:
                return True

        squatters = [Squatter.remote() for _ in range(2)]
        assert all(ray.get([one.here.remote() for one in squatters], timeout=120))
        with another_node(cluster, environment):
            yield
    finally:
        ray.shutdown()


@quiet
def test_the_second_driver_of_a_directory_is_told_who_has_it(cluster: Any, file: Path, tmp_path: Path) -> None:
    driver = Driver(file, tmp_path / "run")
    process = driver.start(cluster.address)
    driver.wait_for_shards(process, 2)
    with pytest.raises(BadInput, match=rf"run is being written by process {process.pid} on \S+\. Wait for it"):
        run_study(load_study(file), tmp_path / "run", on_the_cluster(cluster))
    assert process.wait(120) == 0, driver.errors.read_text()
    check_equal(Run.open(tmp_path / "run"), run_here(tmp_path / "serial", load_study(file)))


@quiet
def test_a_full_disk_under_the_driver_is_said_and_the_run_goes_on(cluster: Any, file: Path, tmp_path: Path) -> None:
    given = load_study(file)
    with small_disk(tmp_path / "disk", "160k") as disk:
        with pytest.raises(DiskError, match=r"could not be written: The disk is full\. Free some space; what is"):
            run_study(given, disk / "run", on_the_cluster(cluster))
        kept = {path.name: path.stat().st_mtime_ns for path in disk.glob("run/results/*/part-*.parquet")}
        assert 0 < len(kept) < SAMPLES // CHUNK * 2
        assert mount("-o", "remount,size=20m", str(disk))
        run = run_study(given, disk / "run", on_the_cluster(cluster))
        check_equal(run, run_here(tmp_path / "serial", given))


@quiet
def test_a_full_disk_of_a_node_changes_nothing(cluster: Any, source: str, tmp_path: Path) -> None:
    # its temporary files and the cache, where it would keep the index of the shards
    pictures = sorted(Path(source.removeprefix("folder:")).rglob("*.png"))
    for shard in range(2):
        members = [
            one
            for path in pictures[shard::2]
            for one in ((path.name, path.read_bytes()), (f"{path.stem}.cls", path.parent.name.encode()))
        ]
        write_tar(tmp_path / "shards" / f"s-{shard}.tar", members)
    given = study(write_model(tmp_path / "model", PAUSE), f"wds:{tmp_path}/shards/s-{{0..1}}.tar", chunk=CHUNK)
    expected = run_here(tmp_path / "serial", given)
    with small_disk(tmp_path / "disk", "64k") as disk:
        fill(disk)
        environment = {"ASSAY_CACHE": str(disk / "cache"), "TMPDIR": str(disk)}
        with alone(cluster, environment):
            run = run_study(given, tmp_path / "run", on_the_cluster(cluster, workers=1))
    check_equal(run, expected)


@quiet
@pytest.mark.skipif(not CLOCK.exists(), reason="needs libfaketime (Debian: apt install libfaketime)")
def test_clocks_an_hour_apart_change_nothing(cluster: Any, file: Path, tmp_path: Path) -> None:
    def wrong(hours: int) -> dict[str, str]:
        return {"LD_PRELOAD": str(CLOCK), "FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    told = [sys.executable, "-c", "import time; print(time.time())"]
    ahead = subprocess.run(told, env={**os.environ, **wrong(1)}, capture_output=True, check=True)
    assert 3500 < float(ahead.stdout) - time.time() < 3700, "the library does not work"
    driver = Driver(file, tmp_path / "run")
    with alone(cluster, wrong(-1)):
        # a driver an hour ahead is killed, and one whose clock is right goes on: an hour before the other began
        process = driver.start(cluster.address, **wrong(1))
        driver.wait_for_shards(process, 6)
        process.kill()
        process.wait(20)
        run = run_study(load_study(file), tmp_path / "run", on_the_cluster(cluster, workers=1))
    check_equal(run, run_here(tmp_path / "serial", load_study(file)))


@quiet
def test_a_node_without_an_extra_says_which(cluster: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tests.support import tiny_onnx

    net = tiny_onnx.write_net(tmp_path / "net.onnx")
    pictures = tiny_onnx.write_pictures(tmp_path / "grey", net, SAMPLES)
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text("import sys\nsys.modules.update(onnx=None, onnxruntime=None)\n")
    given = study(f"onnx:{net}", pictures, attacks="fgsm", chunk=CHUNK)
    environment = {"PYTHONPATH": f"{blocked}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    refused = pytest.raises(AssayError, match=r"On node \S+: .*pip install 'assay\[onnx\]'")
    with alone(cluster, environment), refused:
        run_study(given, tmp_path / "run", on_the_cluster(cluster, workers=1))


# a model that computes on the device it finds, which is wrong on one node; the others wait until that node has begun
PLACED = """device = os.environ.get('FOUND', 'cpu')
    if device == 'meta': open({begun!r}, 'w').close()
    while not os.path.exists({begun!r}): time.sleep(0.05)
    x + torch.ones(8, device=device)"""


@quiet
def test_a_node_where_the_model_cannot_compute_ends_the_run_by_its_name(
    cluster: Any, source: str, tmp_path: Path
) -> None:
    hook = f"{PAUSE}; {PLACED.format(begun=str(tmp_path / 'begun'))}"
    given = study(write_model(tmp_path / "model", hook), source, chunk=CHUNK)
    with another_node(cluster, {"FOUND": "meta"}):
        with pytest.raises(AssayError, match=r"On node \S+: 3 units .* others did.*device.*the same command continues"):
            run_study(given, tmp_path / "run", on_the_cluster(cluster, workers=3))
        found = rows(Run.open(tmp_path / "run"))
        assert found and {row["status"] for row in found}.isdisjoint({"error"}), "what others can do has not failed"
    run = run_study(given, tmp_path / "run", on_the_cluster(cluster))
    check_equal(run, run_here(tmp_path / "serial", given))


@quiet
def test_a_model_that_works_on_one_device_only_is_a_sentence(cluster: Any, source: str, tmp_path: Path) -> None:
    given = study(write_model(tmp_path / "model", "x + torch.ones(8, device='meta')"), source, chunk=CHUNK)
    with pytest.raises(RunFailed, match=r"failed before any of its samples could be evaluated: .*device"):
        run_study(given, tmp_path / "run", on_the_cluster(cluster))


@quiet
def test_units_that_fail_everywhere_become_error_records(cluster: Any, source: str, tmp_path: Path) -> None:
    first = [float(image[0, 0, 0]) for image in images(SAMPLES)[0]]
    # of one of the last units: a model that fails in its very first one ends a run
    marked = next(value for value in reversed(first) if first.count(value) == 1)
    hook = f"assert not bool((abs(x[:, 0, 0, 0] - {marked!r}) < 1e-6).any()), 'not this one'"
    given = study(write_model(tmp_path / "model", hook), source, attacks="fgsm", chunk=CHUNK)
    expected = run_here(tmp_path / "serial", given)
    run = run_study(given, tmp_path / "run", on_the_cluster(cluster))
    found = rows(run)
    assert {row["sample_id"] for row in found if row["status"] == "error"}
    assert found == rows(expected)
