"""Memory against rows: FGSM over 60,000 digits in a worker, the audit and the page, sampled in all processes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

from benchmarks.children import run_python
from benchmarks.measure import Outcome, Row, at_most

SIZES = (10_000, 60_000)
# what grows while code and caches warm up is no slope
WARM = 10_000
CODE = """
import json, os, tempfile, threading, time
from pathlib import Path
import assay

def status(pid):
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{{pid}}/status").read_text().splitlines())
    return int(fields["PPid"]), int(fields.get("VmRSS", "0").split()[0]) / 1024

def sample():
    # megabytes of this process, and of the workers that it started
    mine, workers = 0.0, []
    for pid in (int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()):
        try:
            parent, megabytes = status(pid)
        except (OSError, KeyError):
            continue
        if pid == os.getpid():
            mine = megabytes
        elif parent == os.getpid():
            workers.append(megabytes)
    return mine, max(workers, default=0.0)

if __name__ == "__main__":
    seen, peaks, stage = [], {{}}, "attack"

    def watch():
        while stage != "end":
            mine, _ = sample()
            peaks[stage] = max(peaks.get(stage, 0.0), mine)
            time.sleep(0.05)

    def hear(now):
        global stage
        stage = now.stage
        if stage == "attack":
            seen.append((now.records, *sample()))

    threading.Thread(target=watch, daemon=True).start()
    with tempfile.TemporaryDirectory() as out:
        found = assay.evaluate(
            "zoo:mnist-cnn", {{"source": "mnist/train", "limit": {rows}}}, attacks="fgsm", threat=assay.Linf(0.1),
            out=out, executor="processes", workers=1, doctor=False, audit="{audit}", display="none",
            on_progress=hear,
        )
        stage = "page"
        page = found.page(Path(out) / "page.html")
        bytes_ = page.stat().st_size
        records = found.run.records(["cell"]).num_rows
        stage = "end"
    print(json.dumps({{"seen": seen, "peaks": peaks, "page": bytes_, "records": records}}))
"""


def measure(repeats: int) -> Outcome:
    """Run in fresh processes of one thread; a slope is that of a line through all samples after the first 10,000."""
    driver, worker, page = [], [], []
    for _ in range(repeats):
        small, large = (json.loads(run_python(CODE.format(rows=rows, audit="quick"), threads=1)) for rows in SIZES)
        late = [one for one in large["seen"] if one[0] > WARM]
        driver.append(slope([(rows, mine) for rows, mine, _ in late]))
        worker.append(slope([(rows, its) for rows, _, its in late if its]))
        grown = large["peaks"]["page"] - small["peaks"]["page"]
        page.append(grown / (SIZES[1] - SIZES[0]) * 10_000)
    slopes = {"driver, while it runs": driver, "worker": worker, "driver, at the page: 60,000 against 10,000": page}
    rows = [Row(name, statistics.median(each), min(each), max(each)) for name, each in slopes.items()]
    ratios = [at_most(f"{row.name}: MB per 10,000 rows", row.median, 1.0) for row in rows]
    what = "memory gained, FGSM on MNIST's 60,000 training digits, one worker process, audit and page"
    return Outcome("memory-60000", what, "MB per 10,000 rows", rows, ratios)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return megabytes per 10,000 rows, by least squares over `(rows, megabytes)`."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope * 10_000
