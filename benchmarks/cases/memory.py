"""Peak memory of a whole run, at 1,000 and at 10,000 images."""

from __future__ import annotations

import statistics
import sys

from benchmarks.children import run_python
from benchmarks.measure import Outcome, Row, at_most

SIZES = (1_000, 10_000)
CODE = """
import tempfile
from pathlib import Path
import assay
with tempfile.TemporaryDirectory() as out:
    data = assay.load_data("mnist/test", limit={images})
    settings = dict(doctor=False, audit="off", out=out)
    assay.evaluate("zoo:mnist-cnn", data, attacks="fgsm", threat=assay.Linf(0.1), **settings).results()
# not ru_maxrss: a process inherits that of its parent
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(peak.split()[1]) / 1024)
"""


def measure(repeats: int) -> Outcome:
    """Run FGSM in fresh processes and read their peak resident memory."""
    peaks: dict[int, list[float]] = {images: [] for images in SIZES}
    for repeat in range(repeats):
        for images in SIZES:
            peaks[images].append(float(run_python(CODE.format(images=images), threads=1)))
            print(f"  {repeat + 1}/{repeats} {images} images: {peaks[images][-1]:.0f} MB", file=sys.stderr, flush=True)
    small, large = (statistics.median(peaks[images]) for images in SIZES)
    rows = [Row(f"{images:,} images", statistics.median(p), min(p), max(p)) for images, p in peaks.items()]
    ratios = [at_most("10,000 images against 1,000", large / small, 1.10)]
    return Outcome("memory", "peak memory of a run, FGSM on MNIST test digits", "MB", rows, ratios)
