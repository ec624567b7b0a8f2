"""The benchmarks by name; each stands in a file of its own."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.cases import (
    attacks,
    certify,
    cluster,
    corruptions,
    curve_mnist,
    defenses,
    endpoints,
    engine,
    engine_60000,
    fgsm,
    memory,
    memory_flat,
    onnx_file,
    patch,
    pgd_mnist,
    play,
    records,
    standard,
    train_mnist,
    workers,
)
from benchmarks.measure import Outcome

CASES: dict[str, Callable[[int], Outcome]] = {
    "fgsm-resnet101": fgsm.resnet101,
    "fgsm-mnist": fgsm.mnist,
    "pgd-mnist": pgd_mnist.measure,
    "curve-mnist": curve_mnist.measure,
    "attacks": attacks.measure,
    "standard": standard.measure,
    "engine": engine.measure,
    "engine-60000": engine_60000.measure,
    "defenses": defenses.measure,
    "train-mnist": train_mnist.measure,
    "patch": patch.measure,
    "memory": memory.measure,
    "memory-60000": memory_flat.measure,
    "workers": workers.measure,
    "certify": certify.measure,
    "corruptions": corruptions.measure,
    "onnx-file": onnx_file.measure,
    "records": records.measure,
    "endpoint-overhead": endpoints.overhead,
    "endpoint-forms": endpoints.forms,
    "play": play.measure,
    "ray": cluster.ray,
    "store": cluster.store,
}
"""Name -> measurement; the argument is the number of repeats."""
