"""A folder for `assay patch`: models that name their classes, patches of known pixels, and what they do, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from assay.patches import Patch

NAMED = """
import dataclasses

import torch
from torch import nn

from assay.models import Classifier
from toy import linear

NAMES = ("crane", "toaster", "crane bird")


def cranes():
    return Classifier(linear(), input_shape=(3, 8, 8), classes=NAMES)


def others():
    # the same with the classes in another order: class 1 is not the toaster
    return Classifier(linear(), input_shape=(3, 8, 8), classes=("toaster", "crane", "crane bird"))


def larger():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    return Classifier(network, input_shape=(3, 16, 16), classes=NAMES)


def colour_blind():
    # takes red and green for each other
    return Classifier(nn.Sequential(Swap(), linear()), input_shape=(3, 8, 8), classes=NAMES)


class Swap(nn.Module):
    def forward(self, x):
        return x[:, [1, 0, 2]]
"""

TRAIN = "patch train --model named.py:cranes --data folder:pictures --target toaster --size 4 --display none"
FILE = "runs/patches/cranes-toaster-4.safetensors"


def write_named(folder: Path) -> None:
    """Write the models beside `toy.py`."""
    (folder / "named.py").write_text(NAMED)


def coloured(colour: Sequence[float], size: int = 4, target: int | None = 1, name: str = "toaster") -> Patch:
    """Return a square patch of one colour."""
    pixels = torch.tensor(colour, dtype=torch.float32)[:, None, None].expand(3, size, size).clone()
    return Patch(pixels, torch.ones(size, size), target, name)


def pictures(folder: Path) -> list[tuple[int, np.ndarray]]:
    """Return the labels and pixels `[8, 8, 3]` of all pictures."""
    paths = sorted((folder / "pictures").rglob("*.png"))
    return [(int(path.parent.name), np.asarray(Image.open(path)).astype(int)) for path in paths]


def hits(folder: Path, colour: Sequence[int], size: int, places: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return bool [images, places]: does the brightest channel become green (class 1) with a patch at (row, column)?

    Written from the model's definition; pictures of class 1 are left out.
    """
    found = []
    for label, picture in pictures(folder):
        if label != 1:
            row = []
            for top, left in places:
                changed = picture.copy()
                changed[top : top + size, left : left + size] = colour
                row.append(changed.sum((0, 1)).argmax() == 1)
            found.append(row)
    return np.array(found)
