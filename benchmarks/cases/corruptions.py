"""ImageNet-C's 75 corruptions of 20 pictures: two processes against the package's own loop in one."""

from __future__ import annotations

from benchmarks.children import run_python
from benchmarks.measure import Outcome, at_least, interleaved

OURS = """
import tempfile
import assay
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as out:
        assay.corrupt(
            "efficientnet-lite0", "samples", executor="processes", workers=2, out=out, doctor=False, display="none"
        )
    print("done")
"""
LOOP = """
import cv2, numpy, torch
import assay
from imagecorruptions import corrupt, get_corruption_names
cv2.setNumThreads(1)
model = assay.load_model("efficientnet-lite0")
data = assay.load_data("samples", model=model)
images = [(data.read(at) * 255).round().byte().permute(1, 2, 0).numpy() for at in range(len(data))]
labels = torch.tensor(data.labels)
with model.held(), torch.no_grad():
    for name in get_corruption_names():
        for severity in range(1, 6):
            drawn = numpy.stack([corrupt(image, severity, name) for image in images])
            batch = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
            (model.module(batch).argmax(1) == labels).float().mean()
print("done")
"""


def measure(repeats: int) -> Outcome:
    """Time both from the start of the interpreter: loading the model and starting workers is included."""
    contenders = {
        "assay, two processes": lambda: run_python(OURS, threads=1),
        "loop over the package, one process": lambda: run_python(LOOP, threads=1),
    }
    timed = interleaved(contenders, repeats)
    ours, loop = (timed[name].median for name in contenders)
    ratios = [at_least("the loop takes … times as long as two processes", loop / ours, 2.0)]
    what = "15 corruptions x 5 severities x 20 pictures, EfficientNet-Lite0"
    return Outcome("corruptions", what, "s", [one.row(name) for name, one in timed.items()], ratios)
