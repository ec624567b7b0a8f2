"""Defensive distillation (Papernot et al. 2016): a teacher at temperature T, a student of its soft labels at T.

Both are deployed at temperature 1: their logits, trained to be divided by T, are then T times too large, the softmax
saturates and its float32 gradient is exactly zero for most images. That hides the gradient and adds no robustness.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from assay.core.errors import BadInput
from assay.models.classifier import update_with_state
from assay.models.weights_file import read_safetensors, save_tensors
from assay.training.dataset_view import Examples, Relabelled
from assay.training.fit import FitProgress
from assay.training.losses import CrossEntropy
from assay.training.recipes import Trained, Training, train

OnProgress = Callable[[str, FitProgress], None]

SOFT_LABELS = "soft-labels.safetensors"
HALF = {"mnist-cnn": "mnist-cnn-half"}


@dataclasses.dataclass(frozen=True)
class Distilled:
    """The trained networks: the teacher, and the student, which is the defended one.

    `teacher` is None in the published variant, where it has no influence on the student.
    """

    teacher: Trained | None
    student: Trained


def distill(
    training: Training,
    temperature: float,
    out: Path,
    command: str = "",
    on_progress: OnProgress = lambda stage, progress: None,
) -> Distilled:
    """Train teacher and student of `training`'s architecture; the same call goes on where it was interrupted.

    The teacher learns the labels at `temperature`, the student the teacher's `softmax(logits / temperature)` at
    `temperature`. Both are validated on the labels. `out` receives the folders `teacher` and `student`, and in the
    first of them the soft labels.
    """
    hot, facts = _at(training, temperature), _facts(command, temperature)
    examples, validation = hot.parts()
    teacher = train(hot, (examples, validation), out / "teacher", facts, lambda now: on_progress("teacher", now))
    soft = Relabelled(examples, _kept_soft_labels(teacher.module, examples, temperature, out / "teacher"))
    student = train(hot, (soft, validation), out / "student", facts, lambda now: on_progress("student", now))
    return Distilled(teacher, student)


def distill_as_published(
    training: Training,
    temperature: float,
    out: Path,
    command: str = "",
    on_progress: OnProgress = lambda stage, progress: None,
) -> Distilled:
    """Train what the notebook behind Sen et al. 2023 trains under the name of distillation.

    Its soft labels never reach the second network: that one, of half the width, learns the labels at `temperature`.
    Raises `BadInput` for an architecture without a half of it.
    """
    if training.architecture not in HALF:
        raise BadInput(
            f"The published variant trains a network of half the width, and {training.architecture!r} has none; "
            f"expected {', '.join(HALF)}. Leave out as_published for distillation as Papernot et al. do it."
        )
    half = dataclasses.replace(_at(training, temperature), architecture=HALF[training.architecture])
    facts = _facts(command, temperature)
    student = train(half, half.parts(), out / "student", facts, lambda now: on_progress("student", now))
    return Distilled(None, student)


def soft_labels(model: nn.Module, examples: Examples, temperature: float) -> Tensor:
    """Return `softmax(logits / temperature)` of the model in eval mode for all examples, float32 `[N, K]`."""
    model.eval()
    device = next(model.parameters()).device
    parts = []
    with torch.no_grad():
        for at in torch.split(torch.arange(len(examples)), 1000):
            x = examples.batch(at)[0].to(device, memory_format=torch.channels_last)
            parts.append((model(x) / temperature).softmax(1).cpu())
    return torch.cat(parts)


def _kept_soft_labels(teacher: nn.Module, examples: Examples, temperature: float, folder: Path) -> Tensor:
    """Return the soft labels kept in `folder`, or make and keep them where none of this teacher are there.

    Their last bits depend on the machine and its number of threads, and the student's training on all their bits.
    """
    path = folder / SOFT_LABELS
    weights = hashlib.blake2b(digest_size=16)
    update_with_state(weights, teacher)
    origin = {"teacher": weights.hexdigest(), "data": examples.fingerprint, "temperature": repr(float(temperature))}
    kept = _read(path)
    if kept is not None and kept[1] == origin:
        return kept[0]
    made = soft_labels(teacher, examples, temperature)
    save_tensors({"soft labels": made}, path, origin)
    return made


def _read(path: Path) -> tuple[Tensor, dict[str, str]] | None:
    if not path.exists():
        return None
    try:
        tensors, facts = read_safetensors(path)
        return tensors["soft labels"], facts
    except (BadInput, KeyError):  # damaged, or another file: they can be made again
        return None


def _at(training: Training, temperature: float) -> Training:
    settings = dataclasses.replace(training.settings, loss=CrossEntropy(temperature))
    return dataclasses.replace(training, settings=settings)


def _facts(command: str, temperature: float) -> dict[str, str]:
    return {"command": command, "temperature": f"{temperature:g}"}
