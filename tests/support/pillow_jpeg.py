"""JPEG by Pillow alone, as an oracle."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def written(pixels: NDArray[np.uint8], quality: int) -> io.BytesIO:
    """Return the file of pixels `[1 or 3, H, W]`."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(file, "jpeg", quality=quality)  # 4:2:0 is Pillow's default
    file.seek(0)
    return file


def read_back(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return pixels as they come back from a file."""
    there = np.asarray(Image.open(written(pixels, quality)))
    return there[None] if there.ndim == 2 else there.transpose(2, 0, 1)


def tables_of(quality: int) -> list[list[int]]:
    """Return the sorted entries of the tables of quantisation in a file, for brightness and for colours."""
    tables = Image.open(written(np.zeros((3, 8, 8), np.uint8), quality)).quantization
    return [sorted(tables[at]) for at in sorted(tables)]
