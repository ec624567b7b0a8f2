"""Patches as pictures: masks by name or from a PNG's alpha, photographs to start from, and PNG files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from assay.core.errors import BadInput, did_you_mean
from assay.data.dataset import PictureError
from assay.files import write_atomically
from assay.patches.patch import Patch

if TYPE_CHECKING:
    from PIL.Image import Image

SHAPES = ("square", "circle")


def mask_of(shape: str, size: int) -> Tensor:
    """Return the mask float32 `[h, w]` named by `shape`: square, circle, or a PNG file whose alpha it is.

    `size` is the longer side in pixels. Raises `BadInput` for an unknown name, a picture without alpha, and a mask
    without pixels.
    """
    if size < 1:
        raise BadInput(f"The size is {size}; expected 1 pixel or more.")
    if shape == "square":
        return torch.ones(size, size)
    if shape == "circle":
        at = torch.arange(size) - (size - 1) / 2
        return ((at[:, None].square() + at.square()) <= (size / 2) ** 2).float()
    if not Path(shape).suffix:
        raise BadInput(
            f"Unknown shape {shape!r}.{did_you_mean(shape, SHAPES)} There are: square, circle, and a PNG file."
        )
    picture = _opened(Path(shape).expanduser())
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if "A" not in picture.getbands():
        raise BadInput(f"{shape} has no alpha channel; a mask is where a picture is not transparent. Save it as RGBA.")
    mask = _pixels(_resized(picture.getchannel("A"), size))[0]
    if not bool((mask > 0).any()):
        raise BadInput(f"The mask {shape} covers no pixel at {size} pixels: its alpha is zero everywhere.")
    return mask


def photograph(path: str | Path, mask: Tensor, channels: int) -> Tensor:
    """Return a picture as pixels float32 `[C, h, w]` in [0, 1] of the mask's size, its middle cut out where it must be.

    Raises `BadInput` for a file that is no picture.
    """
    from PIL import ImageOps

    picture = _opened(Path(path).expanduser()).convert("L" if channels == 1 else "RGB")
    height, width = mask.shape
    return _pixels(ImageOps.fit(picture, (width, height)))


def picture_of(patch: Patch) -> Image:
    """Return the patch as a picture: 8 bits per value, its mask as alpha where it is not opaque."""
    from PIL import Image

    eight = (patch.pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(eight[:, :, 0] if eight.shape[2] == 1 else eight)
    if bool((patch.mask == 1).all()):
        return picture
    alpha = Image.fromarray((patch.mask * 255).round().to(torch.uint8).numpy())
    picture = picture.convert("LA" if picture.mode == "L" else "RGBA")
    picture.putalpha(alpha)
    return picture


def write_png(patch: Patch, path: Path) -> None:
    """Write the patch as a PNG."""
    write_atomically(path, png_bytes(picture_of(patch)))


def png_bytes(picture: Image) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def read_picture(path: Path, channels: int) -> Tensor:
    """Return a picture as float32 `[C, H, W]` in [0, 1], at its own size; raises `BadInput` where it is none."""
    return _pixels(_opened(path).convert("L" if channels == 1 else "RGB"))


def from_pixels(pixels: Tensor) -> Image:
    """Return pixels `[C, H, W]` in [0, 1] as a picture of 8 bits per value."""
    return picture_of(Patch(pixels, torch.ones(pixels.shape[1:])))


def _resized(picture: Image, size: int) -> Image:
    from PIL import Image

    longest = max(picture.size)
    sides = (max(1, round(side * size / longest)) for side in picture.size)
    width, height = sides
    return picture.resize((width, height), Image.Resampling.LANCZOS if longest > size else Image.Resampling.NEAREST)


def _opened(path: Path) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():
        there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise BadInput(f"There is no picture {path}.{did_you_mean(path.name, there)}")
    try:
        picture = Image.open(path)
        picture.load()
    except (UnidentifiedImageError, OSError, PictureError) as error:
        raise BadInput(f"{path} is no picture that can be read: {error}") from error
    return ImageOps.exif_transpose(picture)


def _pixels(picture: Image) -> Tensor:
    array = np.array(picture)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy()).float() / 255
