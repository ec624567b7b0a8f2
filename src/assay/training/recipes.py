"""Training of one network on one data set: what `assay train standard` runs, and distillation twice."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from assay.core.answers import checked_logits, gives_one_score
from assay.core.errors import BadInput, ModelError
from assay.core.oracle import frozen
from assay.data.dataset import Data
from assay.models.classifier import Classifier
from assay.models.loaders.untrained import is_code, untrained
from assay.models.seeded import seeded
from assay.models.weights_file import save_weights
from assay.training.checkpoint import CHECKPOINT, LOG
from assay.training.dataset_view import Examples, FromData
from assay.training.fit import FitLog, FitProgress, FitSettings, fit


@dataclasses.dataclass(frozen=True)
class Training:
    """A network to train: architecture (see `untrained`), data, how many of its last samples validate, settings.

    `classes` is the number of outputs, for architectures of torchvision and timm; others refuse it.
    """

    architecture: str
    data: Data
    validation: int
    settings: FitSettings
    classes: int | None = None

    def parts(self) -> tuple[Examples, Examples]:
        """Return the examples to train and to validate on; raises `BadInput` where one of them would be empty."""
        count = len(self.data) - self.validation
        if self.validation < 1 or count < 1:
            raise BadInput(
                f"validation is {self.validation} of {len(self.data)} samples; expected at least 1 for validation "
                "and at least 1 for training."
            )
        return FromData(self.data, 0, count), FromData(self.data, count, len(self.data))


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished training: the network as trained, the path of its weights (float16), the log, and what it cost.

    `passes` counts the samples that went forward and backward, those of searches for points to train on too. Figures
    about a network should be measured on the weights of the file, which are rounded.
    """

    module: nn.Module
    path: Path
    log: FitLog
    passes: int


def train_standard(
    training: Training,
    out: Path,
    command: str = "",
    on_progress: Callable[[FitProgress], None] = lambda progress: None,
) -> Trained:
    """Train the network; the same call goes on where it was interrupted.

    `out` receives the weights (safetensors with architecture, `command`, settings and versions), the checkpoint and
    `log.jsonl`.
    """
    return train(training, training.parts(), out, {"command": command}, on_progress)


def train(
    training: Training,
    parts: tuple[Examples, Examples],
    out: Path,
    facts: dict[str, str],
    on_progress: Callable[[FitProgress], None] = lambda progress: None,
) -> Trained:
    """Train the network on `parts` (for training, for validation); `facts` go into the file of weights."""
    path = out / f"{file_name(training.architecture)}.safetensors"
    _refuse_strangers(path)
    network = _new(training.architecture, training.settings.seed, training.classes)
    check_network(network, training.data, parts[0], training.settings.batch)
    log = fit(network, *parts, training.settings, out, on_progress)
    save_weights(network.module, path, {**_facts(training, network), **facts}, torch.float16)
    return Trained(network.module, path, log, len(log.epochs) * len(parts[0]) * training.settings.loss.passes)


def check_network(network: Classifier, data: Data, examples: Examples, batch: int) -> None:
    """Ask a network about the first examples before it is trained; its weights, statistics and modes stay as they are.

    Raises `BadInput` for one without weights, for labels that are no classes of its, and for probabilities, and
    `ModelError` for answers that are no logits `[N, K]`.
    """
    module, name = network.module, network.spec
    state = [*module.parameters(), *module.buffers()]
    if any(is_lazy(value) or value.is_meta for value in state):
        raise BadInput(
            f"{name} has weights that do not exist yet (lazy layers, or the meta device). Call the network once on an "
            "image, or build it on the CPU, before it is returned."
        )
    x = examples.batch(torch.arange(min(2, batch, len(examples))))[0]
    device = state[0].device if state else x.device
    with torch.no_grad(), torch.random.fork_rng(), frozen(module):
        output = module(x.to(device))
    logits = checked_logits(output, len(x))
    if gives_one_score(output, len(x)):
        raise ModelError(
            f"{name} returns one score per image, and training expects one per class: build it with two outputs."
        )
    wrong = next((label for label in data.labels if not 0 <= label < logits.shape[1]), None)
    if wrong is not None:
        raise BadInput(
            f"{data.source} has the label {wrong}, but {name} has {logits.shape[1]} outputs, for the labels 0 to "
            f"{logits.shape[1] - 1}. Build it for that many classes."
        )
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-4).all()):
        raise BadInput(f"{name} returns probabilities (each row sums to 1), and training expects logits. Return these.")


def _refuse_strangers(path: Path) -> None:
    # beside a checkpoint or a log they come from a training here: who deletes its checkpoint wants to start anew
    if path.exists() and not any((path.parent / name).exists() for name in (CHECKPOINT, LOG)):
        raise BadInput(
            f"{path} is there already, without the checkpoint of a training. Nothing is overwritten: name another "
            "folder, or move the file away."
        )


def new_network(architecture: str, seed: int, classes: int | None = None) -> nn.Module:
    """Return an untrained network (see `untrained`), its weights drawn under `seed`."""
    return _new(architecture, seed, classes).module


def _new(architecture: str, seed: int, classes: int | None) -> Classifier:
    with seeded(seed):
        return untrained(architecture, classes, seed)


def file_name(architecture: str) -> str:
    """Return the name of an architecture as part of a file name: `torchvision:resnet18` has a colon."""
    return re.sub(r"[^\w.-]+", "-", architecture)


def _facts(training: Training, network: Classifier) -> dict[str, str]:
    """Return what the weights say about themselves; loading the file reads the first ones."""
    import torchvision

    shape = training.data.input_shape
    square = {"size": str(shape[1]), "channels": str(shape[0])} if shape and shape[1] == shape[2] else {}
    classes = {"num_classes": str(training.classes)} if training.classes else {}
    return {
        **square,
        **classes,
        **_normalisation(network),
        "arch": training.architecture,
        "seed": str(training.settings.seed),
        "settings": json.dumps(_said(training.settings), default=repr),
        "data": f"{training.data.source}, {len(training.data)} samples, the last {training.validation} for validation",
        "versions": json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__}),
    }


def _said(value: Any) -> Any:
    """Return settings as JSON says them: what a `repr` leaves out (the weights of another network) is left out."""
    if dataclasses.is_dataclass(value):
        return {field.name: _said(getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr}
    return [_said(part) for part in value] if isinstance(value, tuple) else value


def _normalisation(network: Classifier) -> dict[str, str]:
    """Return what the network does to images in [0, 1], where that is known."""
    if network.mean is not None and network.std is not None:
        # nine digits hold a float32
        return {name: ",".join(f"{v:.9g}" for v in getattr(network, name)) for name in ("mean", "std")}
    # the user's code may normalise in ways that cannot be seen from outside
    return {} if is_code(network.spec) else {"mean": "0", "std": "1"}
