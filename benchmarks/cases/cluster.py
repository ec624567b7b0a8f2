"""Two Ray workers against one, one against a worker process; and a local S3 API against the folder that it holds.

They are measured by the Python of `.venv-scale`, which has Ray and the store (`bash scripts/install-beside.sh scale`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Outcome, Timed, at_least, at_most, interleaved

ROOT = Path(__file__).parents[2]
DIGITS, CHUNK, STEPS = 1_600, 100, 200
PICTURES, SIDE = 256, 96

NETWORK = """
import torch
from torch import nn

def factory():
    torch.manual_seed(0)
    from assay.models import Classifier
    layers = (nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU())
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4))
    return Classifier(network, input_shape=(3, SIDE, SIDE))
"""


def ray(repeats: int) -> Outcome:
    """Time PGD on digits, from the first unit's start to the last answer: starting a cluster or worker is not in it."""
    timed = _elsewhere("ray", repeats)
    two, one, process = (timed[name] for name in ("two Ray workers", "one Ray worker", "one worker process"))
    unit = one.results[0]
    ratios = [
        at_least("one Ray worker takes … times as long as two", one.median / two.median, 1.8),
        at_most("one Ray worker against one worker process", one.median / process.median, 1.1),
    ]
    what = f"PGD-{STEPS} as attacked, MNIST network, {DIGITS // CHUNK} units of {unit:.1f} s"
    return Outcome("ray", what, "s", [row.row(name) for name, row in timed.items()], ratios)


def store(repeats: int) -> Outcome:
    """Time PGD on pictures in a folder, and on the same ones behind the S3 API of this machine."""
    timed = _elsewhere("store", repeats)
    ratios = [at_most("local S3 against the folder", timed["local S3"].median / timed["folder"].median, 1.1)]
    what = f"PGD-40, twice restarted, on {PICTURES} pictures of {SIDE} x {SIDE} as JPEG, a small network"
    return Outcome("store", what, "s", [row.row(name) for name, row in timed.items()], ratios)


def _elsewhere(name: str, repeats: int) -> dict[str, Timed]:
    python = ROOT / ".venv-scale" / "bin" / "python"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [str(python), "-m", "benchmarks.cases.cluster", name, str(repeats)]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return {name: Timed(tuple(one["seconds"]), tuple(one["results"])) for name, one in told.items()}


def _ray(repeats: int) -> dict[str, Timed]:
    """Measure in one cluster that stays."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    import ray

    from assay.evaluation.executors import Processes, Ray

    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        engines = {"two Ray workers": Ray(2), "one Ray worker": Ray(1), "one worker process": Processes(1)}
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}

        def noted(name: str) -> Callable[[], None]:
            return lambda: spent[name].append(_from_the_first_unit(engines[name], Path(folder)))

        interleaved({name: noted(name) for name in engines}, repeats)
        ray.shutdown()
    # the first round warms up
    return {name: Timed(*zip(*pairs[1:], strict=True)) for name, pairs in spent.items()}


def _from_the_first_unit(engine: Any, folder: Path) -> tuple[float, float]:
    """Return the seconds from the first unit's start to the last answer, and the median unit's own."""
    import statistics

    from assay.evaluation.executors import Done, Job
    from assay.evaluation.loader import Loader
    from assay.evaluation.plan import make_plan
    from assay.evaluation.study.spec import Study

    loader = Loader()
    study = {"study": "ray", "models": "zoo:mnist-cnn", "data": {"source": "mnist/test", "limit": DIGITS}}
    study |= {"threats": {"norm": "linf", "eps": [0.1]}, "attacks": [{"attack": "pgd", "steps": STEPS}]}
    units = make_plan(Study.of({**study, "chunk": CHUNK, "question": "as_attacked"}), loader).units
    began, lasted = float("inf"), []
    for answer in engine.run(units, Job(folder, loader)):
        assert isinstance(answer, Done), answer
        lasted.append(answer.seconds)
        began = min(began, time.perf_counter() - answer.seconds)
    return time.perf_counter() - began, statistics.median(lasted)


def _store(repeats: int) -> dict[str, Timed]:
    import numpy as np
    import s3fs
    from PIL import Image

    from tests.support.s3 import KEYS, s3_server

    os.environ.update(KEYS)
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder) / "log") as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        root = Path(folder)
        (root / "network.py").write_text(NETWORK.replace("SIDE", str(SIDE)), encoding="utf-8")
        draws = np.random.default_rng(0)
        for at in range(PICTURES):
            place = root / "val" / str(at % 4)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(place / f"{at}.jpg")
        store = s3fs.S3FileSystem()
        store.mkdir("bucket")
        store.put(f"{root}/val", "bucket/val", recursive=True)
        sources = {"folder": f"folder:{root}/val", "local S3": "folder:s3://bucket/val"}
        return interleaved({name: _on(source, root) for name, source in sources.items()}, repeats)


def _on(source: str, root: Path) -> Callable[[], float]:
    from assay.evaluation.run_study import Options, run_study
    from assay.evaluation.study.spec import Study

    study = {"study": "store", "models": f"{root}/network.py:factory", "data": source, "chunk": 32}
    study |= {"threats": {"norm": "linf", "eps": ["2/255", "8/255"]}}
    study |= {"attacks": [{"attack": "pgd", "steps": 40, "restarts": 2}]}

    def run() -> float:
        with tempfile.TemporaryDirectory() as out:
            return float(run_study(Study.of(study), out, Options(executor="serial")).records().num_rows)

    return run


if __name__ == "__main__":
    measured = {"ray": _ray, "store": _store}[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps({name: {"seconds": one.seconds, "results": one.results} for name, one in measured.items()}))
