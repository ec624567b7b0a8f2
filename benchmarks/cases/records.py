"""The numbers of many records, against reading them all into pandas."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.children import run_python
from benchmarks.measure import Outcome, Row, at_most
from tests.support.many_records import cells_of, many_records

CELLS, SAMPLES, BUDGETS = 100, 10_000, 10
"""Ten million records: so many attacks on four models."""

_PEAK = """
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(seconds, int(peak.split()[1]) / 1024, before)
"""
_PANDAS = """
import time
import pandas
from pathlib import Path
before = 0
began = time.process_time()
records = pandas.read_parquet(sorted(map(str, Path({folder!r}).glob("results/*/*.parquet"))))
seconds = time.process_time() - began
"""
_SHOW = """
import io, time
import rich.console
from assay import report
from assay.evaluation.run import Run
(before,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
before = int(before.split()[1]) / 1024
began = time.process_time()
run = Run.open({folder!r})
run.gaps()
report.terminal(run, rich.console.Console(file=io.StringIO()))
seconds = time.process_time() - began
"""


def measure(repeats: int) -> Outcome:
    """Time both in fresh processes, and `show` once more with its numbers kept; peaks are of resident memory."""
    code = {"pandas, all columns": _PANDAS, "show, counting": _SHOW, "show, as kept": _SHOW}
    found: dict[str, list[list[float]]] = {name: [] for name in code}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store = many_records(folder, cells := cells_of(CELLS, n=SAMPLES, budgets=BUDGETS, models=4))
        for cell in cells:
            store.compact(cell)
        for repeat in range(repeats):
            (folder / "numbers.json").unlink(missing_ok=True)
            for name, text in code.items():
                told = run_python(text.format(folder=str(folder)) + _PEAK, threads=1).split()
                found[name].append([float(one) for one in told])
                print(f"  {repeat + 1}/{repeats} {name}: {told[0]} s, {told[1]} MB", file=sys.stderr, flush=True)
    seconds = {name: [one[0] for one in each] for name, each in found.items()}
    median = {name: statistics.median(each) for name, each in seconds.items()}
    peak = {name: statistics.median(one[1] for one in each) for name, each in found.items()}
    more = {name: statistics.median(one[1] - one[2] for one in each) for name, each in found.items()}
    rows = [
        Row(name, median[name], min(each), max(each), f"peak {peak[name]:,.0f} MB, {more[name]:,.0f} above its imports")
        for name, each in seconds.items()
    ]
    whole, counting, kept = code
    ratios = [
        at_most("show, as kept, against pandas", median[kept] / median[whole], 1 / 20),
        at_most("show, counting, against pandas", median[counting] / median[whole], 1 / 2),
        at_most("memory of show above its imports, MB", more[counting], 500),
    ]
    what = f"{CELLS * SAMPLES * BUDGETS:,} records of {CELLS} cells: what `assay show` prints (imports apart)"
    return Outcome("records", what, "s of processor time", rows, ratios)
