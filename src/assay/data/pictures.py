"""Picture files to tensors: decoding whatever Pillow reads into 8-bit grey or RGB, resize and crop.

Resize and crop are torchvision's own functions on Pillow images, so that a picture is exactly what the weights'
own transform gives before normalisation. As there, an EXIF orientation is not applied.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from assay.data.sample import PictureError
from assay.models.classifier import Preprocess

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Reader of picture files, as grey (`channels` 1) or RGB (3) images; pickled with its list of paths."""

    paths: tuple[Path, ...]
    channels: int
    preprocess: Preprocess | None

    def __call__(self, position: int) -> Tensor:
        """Return the picture at `position` as float32 `[C, H, W]`; raises `PictureError` when it cannot be read."""
        return picture_tensor(decode(self.paths[position], self.channels), self.preprocess)


def decode(path: Path, channels: int) -> Image.Image:
    """Return the (first frame of the) picture in mode "L" or "RGB"; raises `PictureError` saying what is wrong."""
    try:
        # Pillow warns of damaged metadata, which no pixel depends on
        with warnings.catch_warnings(action="ignore", category=UserWarning), Image.open(path) as image:
            image.load()
            return to_eight_bits(image, channels)
    # Pillow's decoders raise all of these on damaged files
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path.name}: {str(error) or type(error).__name__}") from error


def to_eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """Return an image of any mode as 8-bit "L" (1 channel) or "RGB" (3); transparency is dropped.

    16-bit grey is scaled (65535 is white): Pillow's own conversion clips it at 255. Floating-point images must
    lie in [0, 1].
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        white = 1.0 if image.mode == "F" else 65535.0
        if values.min() < 0 or values.max() > white:
            found = f"values from {values.min():g} to {values.max():g} in mode {image.mode}"
            raise ValueError(f"{found}; expected 0 to {white:g}")
        image = Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns about it
    return image.convert("L" if channels == 1 else "RGB")


def picture_tensor(image: Image.Image, preprocess: Preprocess | None) -> Tensor:
    """Return an 8-bit picture as float32 `[C, H, W]` in [0, 1] after the resize and crop of `preprocess`."""
    import torch

    prepared = image if preprocess is None else _prepared(image, preprocess)
    values = np.asarray(prepared)
    values = values[:, :, None] if values.ndim == 2 else values
    # as torchvision does it: divided by 255 in float32
    return torch.from_numpy(values.transpose(2, 0, 1).copy()).to(torch.float32).div(255)


def _prepared(image: Image.Image, preprocess: Preprocess) -> Any:
    # more than a second to import, and pictures that stay as they are do not need it
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    changed: Any = image
    if preprocess.resize is not None:
        mode = InterpolationMode(preprocess.interpolation)
        changed = transforms.resize(changed, list(preprocess.resize), mode, antialias=preprocess.antialias)
    if preprocess.crop is not None:
        changed = transforms.center_crop(changed, list(preprocess.crop))
    return changed


def pictures_under(folder: Path) -> list[str]:
    """Return the relative paths (with forward slashes) of all picture files under `folder`, sorted; none hidden."""
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(folder).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        found += [prefix + name for name in files if not name.startswith(".") and name.lower().endswith(EXTENSIONS)]
    return sorted(found)
