"""`imagenet-c:DIR|fog:severity=3`: pictures of a published ImageNet-C tree, read as they are.

The tree is DIR/CORRUPTION/SEVERITY/SYNSET/picture.JPEG, as the published archives unpack; a folder between (`noise`,
`blur`, …) is looked into as well. Nothing is resized: the pictures have the model's size, and a resize moves numbers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from assay.core.errors import BadInput
from assay.data.corruption import SEVERITIES, Corruption, known_corruption, take_view
from assay.data.dataset import Source
from assay.data.folder import class_folders, existing
from assay.data.imagenet import vocabulary_of
from assay.data.pictures import decode
from assay.data.written_labels import Written
from assay.models.classifier import Classifier

SCHEME = "imagenet-c:"


def imagenet_c(name: str, model: Classifier | None) -> Source:
    """Return the pictures of one corruption and severity with the model's labels (ImageNet's order without a model).

    Raises `BadInput` where the tree has them not, and where the model takes images of another size.
    """
    plain, corruption = take_view(name)
    if corruption is None:
        raise BadInput(
            f"{SCHEME}{plain} is a tree of many data sets. Name one, {SCHEME}{plain}|gaussian-noise:severity=1, or "
            f"measure all: assay corrupt --data {SCHEME}{plain}"
        )
    found = folders(plain)
    if corruption not in found:
        there = ", ".join(dict.fromkeys(one.kind for one in found)) or "none"
        raise BadInput(f"{SCHEME}{plain} has no {corruption.written}. Its corruptions: {there}.")
    folder = found[corruption]
    files = class_folders(folder, vocabulary_of(model), Written(f"{SCHEME}{plain}"))
    if model is not None and model.input_shape is not None:
        _check_size(folder / files.files[0], model.input_shape)
    # without options of reading: these files are what they are
    unchanged = None if model is None else dataclasses.replace(model, preprocess=None)
    return dataclasses.replace(files, written=None, renumberings=()).source(unchanged)


def folders(name: str) -> dict[Corruption, Path]:
    """Return where each corruption and severity of the tree `name` lies, in the order of the table."""
    root = existing(name, SCHEME)
    found: dict[Corruption, Path] = {}
    for severity in SEVERITIES:
        for folder in sorted([*root.glob(f"*/{severity}"), *root.glob(f"*/*/{severity}")]):
            try:
                kind = known_corruption(folder.parent.name)
            except BadInput:
                continue
            found.setdefault(Corruption(kind, severity), folder)
    if not found:
        raise BadInput(f"{root} is no ImageNet-C tree; expected {root}/gaussian_noise/1/n01440764/picture.JPEG.")
    return found


def _check_size(path: Path, shape: tuple[int, int, int]) -> None:
    picture = decode(path, 3)
    if (picture.height, picture.width) != shape[1:]:
        raise BadInput(
            f"{path} has {picture.height} x {picture.width} pixels, and the model takes {shape[1]} x {shape[2]}. "
            "ImageNet-C is read as it is, for a resize moves the numbers: use a model of that size. To resize all the "
            f"same, name one folder: imagenet:{path.parent.parent}"
        )
