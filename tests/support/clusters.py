"""Ray clusters of several nodes on this machine, drivers in processes of their own, and what their workers did when."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.evaluation.execution.options import Options

SMALL = {"object_store_memory": 80 * 2**20}

# Ray's own: what it leaves open when it ends is closed by the collector of garbage
quiet = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@contextlib.contextmanager
def cluster_of(nodes: int) -> Iterator[Any]:
    """Start a head without workers and `nodes` nodes of one core; end all of them."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})
    try:
        for _ in range(nodes):
            add_node(made)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


def add_node(cluster: Any, **more: Any) -> Any:
    """Start another node of one core."""
    return cluster.add_node(**{"num_cpus": 1, **SMALL, **more})


def workers_of(cluster: Any) -> list[Any]:
    """Return the nodes besides the head."""
    return [node for node in cluster.list_all_nodes() if node is not cluster.head_node]


@contextlib.contextmanager
def another_node(cluster: Any, environment: dict[str, str], **more: Any) -> Iterator[Any]:
    """Start a node that differs from the others in its environment, and remove it."""
    node = add_node(cluster, env_vars=environment, **more)
    cluster.wait_for_nodes()
    try:
        yield node
    finally:
        cluster.remove_node(node)


def on_the_cluster(cluster: Any, **more: Any) -> Options:
    """Return the options of a run there."""
    return Options(executor="ray", address=cluster.address, **more)


_SCRIPT = """
import sys
from assay.core.errors import AssayError
from assay.evaluation.run_study import Options, run_study
from assay.evaluation.study.yaml_source import load_study
try:
    run_study(load_study(sys.argv[1]), sys.argv[2], Options(executor="ray", address=sys.argv[3] or None, workers=2))
except AssayError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    raise SystemExit(error.exit_code)
"""


@dataclasses.dataclass(frozen=True)
class Driver:
    """A study, the directory it runs in, and how to start it in a process of its own."""

    study: Path
    out: Path

    def start(self, address: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the driver; an empty `address` makes a cluster for the while."""
        with self.errors.open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-c", _SCRIPT, str(self.study), str(self.out), address],
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )

    @property
    def errors(self) -> Path:
        """What the drivers wrote."""
        return self.out.parent / f"{self.out.name}.err"

    @property
    def shards(self) -> int:
        """How many units are done."""
        return len(list(self.out.glob("results/*/part-*.parquet")))

    def wait_for_shards(self, process: subprocess.Popen[bytes], count: int) -> None:
        """Wait until so many units are done."""
        self.wait_for(process, lambda: self.shards >= count)

    def wait_for(self, process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
        """Wait until something holds, while the driver is alive."""
        end = time.monotonic() + 240
        while not condition():
            assert process.poll() is None and time.monotonic() < end, (
                f"driver: {process.poll()}, {self.shards} units; {self.errors.read_text()}"
            )
            time.sleep(0.01)


TRACED = (
    "trace = open({folder!r} + '/' + str(os.getpid()), 'a', buffering=1); "
    "trace.write('s %r\\n' % time.monotonic()); time.sleep({pause}); trace.write('e %r\\n' % time.monotonic())"
)
"""A hook for tests.support.tiny: each pass takes a while, and says when it began and ended."""


@dataclasses.dataclass(frozen=True)
class Trace:
    """When the workers of a run were in a pass, as they wrote it themselves (seconds of the machine's clock)."""

    folder: Path

    def hook(self, pause: float) -> str:
        """Return the hook of a model whose passes take `pause` seconds and are written down here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return TRACED.format(folder=str(self.folder), pause=pause)

    def passes(self) -> dict[int, list[tuple[float, float]]]:
        """Return for each process the passes that came to their end."""
        found: dict[int, list[tuple[float, float]]] = {}
        for file in self.folder.iterdir():
            times = [line.split() for line in file.read_text().splitlines()]
            whole = [line for line in times if len(line) == 2]
            pairs = itertools.pairwise(whole)
            found[int(file.name)] = [(float(a[1]), float(b[1])) for a, b in pairs if a[0] == "s" and b[0] == "e"]
        return found

    def living(self) -> int:
        """Return how many of the processes that ever were in a pass are alive."""
        found = 0
        for file in self.folder.iterdir():
            with contextlib.suppress(OSError):
                os.kill(int(file.name), 0)
                found += 1
        return found

    def in_a_pass(self) -> list[int]:
        """Return the living processes that are in a pass."""
        found = []
        for file in self.folder.iterdir():
            with contextlib.suppress(OSError, IndexError):
                # one that is dead stays where it was
                os.kill(int(file.name), 0)
                if file.read_text().splitlines()[-1].startswith("s "):
                    found.append(int(file.name))
        return found

    def longest_idle(self, after: float) -> float:
        """Return how long any process that worked before and after a moment did nothing, from then on at most."""
        longest = 0.0
        for passes in self.passes().values():
            if passes and passes[0][0] < after < passes[-1][1]:
                rests = itertools.pairwise(passes)
                longest = max([longest, *(b[0] - a[1] for a, b in rests if b[0] > after)])
        return longest
