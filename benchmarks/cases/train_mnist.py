"""What one epoch of `assay.training.fit` costs over a bare PyTorch loop, in the better memory format of the two."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.training import FitSettings, fit, new_network
from assay.training.dataset_view import InMemory
from benchmarks import subjects
from benchmarks.measure import Outcome, at_most, interleaved

# validation in the share of the paper's protocol
DIGITS, VALIDATION, BATCH = 6_400, 1_280, 64
FORMATS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


def measure(repeats: int) -> Outcome:
    """Time one epoch on 6,400 digits and a validation on 1,280, in batches of 64."""
    _, x, y = subjects.mnist(DIGITS + VALIDATION)
    parts = (x[:DIGITS], y[:DIGITS]), (x[DIGITS:], y[DIGITS:])
    contenders = {"assay": _ours(*parts)}
    contenders |= {f"bare loop, {name}": _bare(*parts, layout) for name, layout in FORMATS.items()}
    timed = interleaved(contenders, repeats)
    better = min((f"bare loop, {name}" for name in FORMATS), key=lambda name: timed[name].median)
    ratios = [at_most(f"assay against the {better}", timed["assay"].median / timed[better].median, 1.1)]
    rows = [one.row(name, 1, subjects.written(one.accuracies)) for name, one in timed.items()]
    what = f"one epoch of the MNIST network on {DIGITS:,} digits, batch {BATCH}, validated on {VALIDATION:,}"
    return Outcome("train-mnist", what, "s", rows, ratios)


Part = tuple[Tensor, Tensor]


def _ours(train: Part, validation: Part) -> Callable[[], list[float]]:
    def run() -> list[float]:
        model = new_network("mnist-cnn", 0)
        with tempfile.TemporaryDirectory() as folder:
            log = fit(model, InMemory(*train), InMemory(*validation), FitSettings(1, BATCH), Path(folder))
        return [log.epochs[0].validation_accuracy]

    return run


def _bare(train: Part, validation: Part, layout: torch.memory_format) -> Callable[[], list[float]]:
    """Return the least work the same epoch can be: no checks, no log, no checkpoint."""

    def run() -> list[float]:
        model = new_network("mnist-cnn", 0).to(memory_format=layout).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=FitSettings().learning_rate)
        for at in torch.randperm(DIGITS).split(BATCH):
            optimizer.zero_grad()
            images = train[0][at].to(memory_format=layout)
            F.cross_entropy(model(images), train[1][at]).backward()
            optimizer.step()
        return [_accuracy(model.eval(), *validation, layout)]

    return run


def _accuracy(model: nn.Module, x: Tensor, y: Tensor, layout: torch.memory_format) -> float:
    with torch.no_grad():
        answers = [model(part.to(memory_format=layout)).argmax(1) for part in x.split(1000)]
    return float((torch.cat(answers) == y).double().mean())
