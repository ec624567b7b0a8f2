"""The logs of the shipped MNIST networks' trainings, epoch by epoch: Figures 7 and 10."""

from __future__ import annotations

import json
from importlib.resources import files

from assay.paper.inputs import TrainingLog

FIGURE_7 = ("mnist-cnn",)
FIGURE_10 = ("mnist-teacher-t100", "mnist-distilled-t100", "mnist-distilled-t100-as-published")
_TITLES = {
    "mnist-cnn": "plain network",
    "mnist-teacher-t100": "teacher at T = 100",
    "mnist-distilled-t100": "student of its soft labels",
    "mnist-distilled-t100-as-published": "as published: hard labels at T = 100",
}


def training_logs() -> tuple[TrainingLog, ...]:
    """Return the training of every shipped MNIST network."""
    return tuple(_log(network, title) for network, title in _TITLES.items())


def _log(network: str, title: str) -> TrainingLog:
    text = (files("assay.paper") / "training" / f"zoo-{network}.jsonl").read_text("utf-8")
    return TrainingLog(network, title, tuple(json.loads(line) for line in text.splitlines() if line.strip()))
