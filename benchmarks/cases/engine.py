"""What records, store and scoring cost over the bare attack loop."""

from __future__ import annotations

import copy
import tempfile

import torch

import assay
from benchmarks import subjects
from benchmarks.measure import Outcome, at_most, interleaved

DIGITS, CHUNK, STEPS, BUDGETS = 512, 128, 20, (0.05, 0.1)


def measure(repeats: int) -> Outcome:
    """Time PGD-20 at two budgets on 512 digits, with the engine and without."""
    model, x, y = subjects.mnist(DIGITS)
    own = copy.deepcopy(model)
    classifier, data = assay.load_model("zoo:mnist-cnn"), assay.load_data("mnist/test", limit=DIGITS)

    def engine() -> list[float]:
        with tempfile.TemporaryDirectory() as out:
            run = assay.evaluate(
                classifier,
                data,
                attacks=[{"attack": "pgd", "steps": STEPS}],
                threat={"norm": "linf", "eps": list(BUDGETS)},
                out=out,
                question="as_attacked",
                chunk=CHUNK,
                doctor=False,
                audit="off",
            )
            return [one.robust_accuracy for one in run.results()]

    def bare() -> list[float]:
        broken = [0] * len(BUDGETS)
        threats = [assay.Linf(eps) for eps in BUDGETS]
        for start in range(0, DIGITS, CHUNK):
            images, labels = x[start : start + CHUNK], y[start : start + CHUNK]
            with torch.no_grad():
                own(images)  # the clean prediction, which every evaluation needs
            for i, one in enumerate(assay.sweep(assay.PGD(steps=STEPS), own, images, labels, threats=threats)):
                broken[i] += int(one.success.sum())
        return [1 - count / DIGITS for count in broken]

    timed = interleaved({"engine": engine, "bare loop": bare}, repeats)
    ratios = [at_most("engine against the bare loop", timed["engine"].median / timed["bare loop"].median, 1.03)]
    rows = [one.row(name, 1, subjects.written(one.accuracies)) for name, one in timed.items()]
    what = f"PGD-{STEPS} as attacked at two budgets, MNIST network, {DIGITS} test digits"
    return Outcome("engine", what, "s", rows, ratios)
