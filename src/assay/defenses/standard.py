"""Standard training of one of Assay's architectures: what `assay train standard` runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from assay.core.errors import BadInput, did_you_mean
from assay.data.sample import Data
from assay.defenses.examples import FromData
from assay.defenses.fit import FitLog, FitProgress, FitSettings, fit
from assay.models.architectures import ARCHITECTURES
from assay.models.seeded import seeded
from assay.models.weights_file import save_weights


@dataclasses.dataclass(frozen=True)
class Training:
    """A network to train: architecture, data, how many of its last samples validate, and the settings."""

    architecture: str
    data: Data
    validation: int
    settings: FitSettings


def train_standard(
    training: Training,
    out: Path,
    command: str = "",
    on_progress: Callable[[FitProgress], None] = lambda progress: None,
) -> tuple[Path, FitLog]:
    """Train the network and return the path of its weights in `out` (safetensors, float16) and the log.

    `out` also receives the checkpoint, from which the same call continues, and `log.jsonl`. The weights carry
    architecture, `command`, settings and versions; every figure about the network should be measured on them.
    """
    count = len(training.data) - training.validation
    if training.validation < 1 or count < 1:
        raise BadInput(
            f"validation is {training.validation} of {len(training.data)} samples; expected at least 1 for validation "
            "and at least 1 for training."
        )
    module = new_network(training.architecture, training.settings.seed)
    parts = FromData(training.data, 0, count), FromData(training.data, count, len(training.data))
    log = fit(module, *parts, training.settings, out, on_progress)
    path = out / f"{training.architecture}.safetensors"
    save_weights(module, path, _facts(training, command), torch.float16)
    return path, log


def new_network(architecture: str, seed: int) -> nn.Module:
    """Return an untrained network of the table `ARCHITECTURES`, its weights drawn under `seed`."""
    if architecture not in ARCHITECTURES:
        near = did_you_mean(architecture, ARCHITECTURES)
        raise BadInput(f"Unknown architecture {architecture!r}.{near} There are: {', '.join(ARCHITECTURES)}.")
    with seeded(seed):
        return ARCHITECTURES[architecture]()


def _facts(training: Training, command: str) -> dict[str, str]:
    """Return what the weights say about themselves; loading the file reads the first five."""
    import torchvision

    shape = training.data.input_shape
    square = {"size": str(shape[1]), "channels": str(shape[0])} if shape and shape[1] == shape[2] else {}
    return {
        **square,
        # trained on images in [0, 1] as they are
        "mean": "0",
        "std": "1",
        "arch": training.architecture,
        "command": command,
        "seed": str(training.settings.seed),
        "settings": json.dumps(dataclasses.asdict(training.settings), default=repr),
        "data": f"{training.data.source}, {len(training.data)} samples, the last {training.validation} for validation",
        "versions": json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__}),
    }
