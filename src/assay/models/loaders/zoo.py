"""The networks whose weights come with Assay, trained by its own commands."""

from __future__ import annotations

import dataclasses
from importlib.resources import as_file, files

from assay.defenses.dropout import DropoutOn
from assay.models.architectures import ARCHITECTURES
from assay.models.classifier import Classifier, Preprocess
from assay.models.spec import Request, unknown
from assay.models.weights_file import fill, read_safetensors

SCHEME = "zoo:"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One shipped network: its file of weights, architecture, classes, and its measured test accuracy."""

    file: str
    architecture: str
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    accuracy: float
    summary: str


ZOO = {
    "mnist-cnn": Entry(
        file="mnist-cnn.safetensors",
        architecture="mnist-cnn",
        input_shape=(1, 28, 28),
        classes=tuple("0123456789"),
        # measured with the shipped, rounded weights on the 10,000 test images
        accuracy=0.9857,
        summary="the MNIST network of Sen et al. 2023, 1,199,882 parameters, standard training",
    ),
    "mnist-teacher-t100": Entry(
        file="mnist-teacher-t100.safetensors",
        architecture="mnist-cnn",
        input_shape=(1, 28, 28),
        classes=tuple("0123456789"),
        accuracy=0.9529,
        summary="the same network trained at T = 100: the teacher of the distilled one",
    ),
    "mnist-distilled-t100": Entry(
        file="mnist-distilled-t100.safetensors",
        architecture="mnist-cnn",
        input_shape=(1, 28, 28),
        classes=tuple("0123456789"),
        accuracy=0.9436,
        summary="defensive distillation: a student of that teacher's soft labels, at T = 100",
    ),
    "mnist-distilled-t100-as-published": Entry(
        file="mnist-distilled-t100-as-published.safetensors",
        architecture="mnist-cnn-half",
        input_shape=(1, 28, 28),
        classes=tuple("0123456789"),
        accuracy=0.9349,
        summary="what the paper's notebook calls distilled: half the width, hard labels at T = 100",
    ),
    "mnist-pgd": Entry(
        file="mnist-pgd.safetensors",
        architecture="mnist-fast",
        input_shape=(1, 28, 28),
        classes=tuple("0123456789"),
        accuracy=0.9868,
        summary="the small MNIST network of Wong et al. 2020, 166,406 parameters, adversarially trained at Linf 0.3",
    ),
    "mnist-certified": Entry(
        file="mnist-certified.safetensors",
        architecture="mnist-fast",
        input_shape=(1, 28, 28),
        classes=tuple("0123456789"),
        accuracy=0.9808,
        summary="the same small network, trained by interval bounds to be certified at Linf 0.1",
    ),
}


def load(request: Request) -> Classifier:
    """Load a shipped network; its weights are stored as float16 and used as float32.

    `?dropout=on` leaves its dropout on, as the notebook behind the printed numbers does.
    """
    if request.name not in ZOO:
        raise unknown(request.spec, SCHEME, request.name, tuple(ZOO))
    entry = ZOO[request.name]
    module = ARCHITECTURES[entry.architecture]()
    with as_file(files("assay.models") / "weights" / entry.file) as path:
        fill(module, read_safetensors(path)[0], request.spec)
    channels = entry.input_shape[0]
    with_dropout = request.options.dropout is not None
    return Classifier(
        module=DropoutOn(module) if with_dropout else module,
        spec=request.spec,
        input_shape=entry.input_shape,
        # the network takes [0, 1] as it is
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        preprocess=Preprocess((entry.input_shape[1],), entry.input_shape[1:]),
        classes=entry.classes,
        published_accuracy=None if with_dropout else entry.accuracy,
    )
