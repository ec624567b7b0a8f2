"""An ImageNet of drawn pictures: all 1,000 classes, one picture each, and five of each of the first six."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image

from assay.models.imagenet import imagenet_synsets

RICH = 6


def fake_imagenet(root: Path) -> Path:
    """Write the pictures (8 x 8 PNGs) under `root`, and return it."""
    draw = random.Random(0)
    for label, synset in enumerate(imagenet_synsets()):
        (root / synset).mkdir()
        for i in range(5 if label < RICH else 1):
            picture = Image.frombytes("RGB", (8, 8), draw.randbytes(3 * 8 * 8))
            picture.save(root / synset / f"{synset}_{i}.png", compress_level=0)
    return root
