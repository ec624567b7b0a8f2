"""An ONNX file against the module of torch that it was exported from: EfficientNet-Lite0, one thread, one process."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import assay
from assay.models import Classifier
from benchmarks.measure import Outcome, at_most, interleaved

IMAGES, QUERIES, STEPS = 8, 12, 2


def exported(folder: Path) -> tuple[Classifier, Classifier]:
    """Return the network from its module, and from an ONNX file."""
    module = assay.load_model("efficientnet-lite0")
    path = folder / "lite0.onnx"
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    with warnings.catch_warnings(action="ignore"):  # the older exporter, which needs no further package, says it is old
        torch.onnx.export(
            module.module, (torch.rand(1, 3, 224, 224),), str(path), dynamo=False, opset_version=17,
            input_names=["x"], output_names=["y"], dynamic_axes=axes,
        )  # fmt: skip
    return module, assay.load_model(f"onnx:{path}")


def gradient(model: Classifier, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of a network, asked in the layout that a search would choose."""
    oracle = model.oracle()
    with model.held(), torch.enable_grad():
        x = x.clone().requires_grad_()
        form = oracle.form(x)
        with oracle.ready(x, form) as images:
            loss = F.cross_entropy(network(images), y, reduction="sum")
        return torch.autograd.grad(loss, x)[0]


def measure(repeats: int) -> Outcome:
    """Compare score attacks, whole gradient attacks, and the gradient of the conversion alone."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((IMAGES, 3, 224, 224), generator=generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            module, file = exported(Path(folder))
            with module.held():
                y = module.oracle().answers(x).argmax(1)
            # too small a budget to break an image: all of them take every step
            threat = assay.Linf(1e-5)
            square, climb = assay.attacks.build("square", queries=QUERIES), assay.PGD(steps=STEPS)
            twin: nn.Module = file.module.twin  # type: ignore[assignment]  # a module that has one
            timed = interleaved(
                {
                    "square, torch": lambda: assay.attack(square, module, x, y, threat),
                    "square, onnx": lambda: assay.attack(square, file, x, y, threat),
                    "gradient, torch": lambda: gradient(module, module.module, x, y),
                    "gradient of the conversion": lambda: gradient(file, twin, x, y),
                    "pgd, torch": lambda: assay.attack(climb, module, x, y, threat),
                    "pgd, onnx": lambda: assay.attack(climb, file, x, y, threat),
                },
                repeats,
            )
    finally:
        torch.set_num_threads(threads)
    passes = {"square": IMAGES * QUERIES, "gradient": IMAGES, "pgd": IMAGES * STEPS}
    rows = [one.row(name, passes[name.split()[0].strip(",")] / 1000) for name, one in timed.items()]
    median = {name: one.median for name, one in timed.items()}
    return Outcome(
        "onnx-file",
        f"EfficientNet-Lite0 as a module and as an ONNX file, {IMAGES} images of 224 x 224, one thread",
        "ms per image and look",
        rows,
        [
            at_most("score attack: onnxruntime / torch", median["square, onnx"] / median["square, torch"], 0.6),
            at_most(
                "gradient: conversion / torch", median["gradient of the conversion"] / median["gradient, torch"], 1.3
            ),
            at_most("gradient attack, judged by the file / torch", median["pgd, onnx"] / median["pgd, torch"], 1.3),
        ],
    )
