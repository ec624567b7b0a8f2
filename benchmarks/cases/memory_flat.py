"""Memory against rows: FGSM over 60,000 digits in a worker, the audit and the page, sampled from outside."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Outcome, Row, at_most

SIZES = (10_000, 60_000)
# what grows while code and caches warm up is no slope
WARM = 10_000
CODE = """
import sys
from pathlib import Path
import assay

def say(*words):
    print(*words, file=sys.stderr, flush=True)

if __name__ == "__main__":
    rows, out = int(sys.argv[1]), Path(sys.argv[2])
    found = assay.evaluate(
        "zoo:mnist-cnn", {"source": "mnist/train", "limit": rows}, attacks="fgsm", threat=assay.Linf(0.1), out=out,
        executor="processes", workers=1, doctor=False, audit="quick", display="none",
        on_progress=lambda now: say(now.stage, now.records),
    )
    say("page", rows)
    found.page(out / "page.html")
    assert found.run.records(["cell"]).num_rows == rows
"""


@dataclasses.dataclass
class Memory:
    """What a run of so many rows held, in MB: at each chunk (rows done, driver, worker), and at most at each stage."""

    attack: list[tuple[int, float, float]]
    peaks: dict[str, float]


def measure(repeats: int) -> Outcome:
    """Run in fresh processes of one thread; a slope is that of a line through all samples after the first 10,000."""
    slopes: dict[str, list[float]] = {}
    for repeat in range(repeats):
        small, large = (sampled(rows) for rows in SIZES)
        for name, value in slopes_of(small, large).items():
            slopes.setdefault(name, []).append(value)
        print(f"  {repeat + 1}/{repeats} {slopes}", file=sys.stderr, flush=True)
    rows = [Row(name, statistics.median(each), min(each), max(each)) for name, each in slopes.items()]
    # what the run reads is there before its first row: of the peaks it is told, and held to nothing
    ratios = [at_most(f"{row.name}: MB per 10,000 rows", row.median, 1.0) for row in rows]
    what = "memory gained, FGSM on MNIST's 60,000 training digits, one worker process, audit and page"
    return Outcome("memory-60000", what, "MB per 10,000 rows", rows, ratios)


def slopes_of(small: Memory, large: Memory) -> dict[str, float]:
    """Return MB per 10,000 rows: of both processes while they run, and of what audit and page add to the driver."""
    # the last sample is of the run that has ended
    late = [one for one in large.attack[:-1] if one[0] > WARM]
    found = {
        "driver, while it runs": slope([(rows, mine) for rows, mine, _ in late]),
        "worker, while it runs": slope([(rows, its) for rows, _, its in late if its]),
    }
    for stage in ("audit", "page"):
        added = [one.peaks[stage] - one.attack[-1][1] for one in (small, large)]
        found[f"driver, what the {stage} adds at most"] = (added[1] - added[0]) / (SIZES[1] - SIZES[0]) * 10_000
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return megabytes per 10,000 rows, by least squares over the least of every 2,500 of `(rows, megabytes)`.

    What a pass holds for a moment is sampled or not, by chance; what is kept is in every sample.
    """
    least: dict[float, float] = {}
    for rows, megabytes in points:
        least[rows // 2_500] = min(megabytes, least.get(rows // 2_500, megabytes))
    return statistics.linear_regression(list(least), list(least.values())).slope * 4


def sampled(rows: int) -> Memory:
    """Run over so many digits in a process of its own, and sample it and its worker from here."""
    found, stage, over = Memory([], {}), ["attack"], threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(CODE)
        command = [sys.executable, str(script), str(rows), f"{folder}/run"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as child:
            assert child.stderr is not None

            def watch() -> None:
                while not over.wait(0.02):
                    mine, _ = resident(child.pid)
                    found.peaks[stage[0]] = max(found.peaks.get(stage[0], 0.0), mine)

            watcher = threading.Thread(target=watch)
            watcher.start()
            said = []
            for line in child.stderr:
                said.append(line)
                words = line.split()
                if len(words) == 2 and words[0] in ("attack", "audit", "page"):
                    stage[0] = words[0]
                    if stage[0] == "attack":
                        found.attack.append((int(words[1]), *resident(child.pid, workers=True)))
            over.set()
            watcher.join()
    if child.returncode:
        raise RuntimeError("".join(said[-20:]))
    return found


def resident(pid: int, *, workers: bool = False) -> tuple[float, float]:
    """Return the resident memory of a process, and of its largest child where asked, in MB."""
    largest = 0.0
    for one in Path("/proc").iterdir() if workers else ():
        if one.name.isdigit():
            parent, megabytes = _status(int(one.name))
            largest = max(largest, megabytes if parent == pid else 0.0)
    return _status(pid)[1], largest


def _status(pid: int) -> tuple[int, float]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0.0
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["PPid"]), int(fields.get("VmRSS", "0").split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(slopes_of(*(sampled(rows) for rows in SIZES)), indent=1))
