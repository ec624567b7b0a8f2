"""ImageNet-C's corruptions (Hendrycks and Dietterich 2019) for RGB images of at least 32 x 32 pixels.

They are the package `imagecorruptions-imaug`'s, with its quirks, which are the benchmark: only what it draws at random
is fixed here. Zoom blur, brightness and glass blur, most of its time, are computed faster to the same within one grey
level.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.core.errors import BadInput
from assay.models.weights_file import Unavailable

Pixels = NDArray[Any]

STANDARD = (
    "gaussian-noise", "shot-noise", "impulse-noise", "defocus-blur", "glass-blur", "motion-blur", "zoom-blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic-transform", "pixelate", "jpeg-compression",
)  # fmt: skip
VALIDATION = ("speckle-noise", "gaussian-blur", "spatter", "saturate")

PACKAGE = "imagecorruptions-imaug"
_SMALLEST = 32
# imagecorruptions-imaug 1.1.5: numpy's seed does not reach its generator, which starts from the operating system's
_OWN_SEED = ("impulse-noise",)
# sigma, reach and rounds
_GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
# step and end (exclusive) of the zoom factors
_ZOOMS = ((0.01, 1.11), (0.01, 1.16), (0.02, 1.21), (0.02, 1.26), (0.03, 1.31))


def check(shape: tuple[int, ...], where: str) -> None:
    """Raise `BadInput` for images of a shape (C, H, W) that have no corruptions."""
    channels, height, width = shape
    if channels != 3:
        raise BadInput(
            f"{where} has images of {channels} channels ({height} x {width}). Corruptions are defined for RGB images "
            f"of {_SMALLEST} x {_SMALLEST} pixels or more, and for grey digits of 28 x 28. Use data and a model of "
            "3 channels."
        )
    if min(height, width) < _SMALLEST:
        raise BadInput(
            f"{where} has images of {height} x {width} pixels; corruptions need {_SMALLEST} x {_SMALLEST} or more. "
            "Use larger images, and a model that takes them."
        )


@functools.cache
def version() -> str:
    """Return the package and its version. Raises `Unavailable` where it is not installed."""
    _package()
    return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"


@functools.cache
def _package() -> Any:
    try:
        import cv2
        import imagecorruptions

        importlib.metadata.version(PACKAGE)
    except ImportError as error:  # a package without its metadata is none either
        raise Unavailable(
            f"Corruptions of RGB images are drawn by {PACKAGE}, which is not installed: "
            "pip install 'assay[corruptions]'."
        ) from error
    # workers are processes of one thread each
    cv2.setNumThreads(1)
    return imagecorruptions


def render(kind: str, pixels: Pixels, severity: int, seed: int) -> Pixels:
    """Return the image (uint8 `[H, W, 3]`), corrupted."""
    if kind == "zoom-blur":
        return _zoom_blur(pixels, severity)
    if kind == "brightness":
        return _brightness(pixels, severity)
    if kind == "glass-blur":
        return _glass_blur(pixels, severity, seed)
    own = {"seed": seed} if kind in _OWN_SEED else {}
    package = _package()
    # of sizes that it was not made for, the package tells standard output
    with _numpy_seeded(seed), contextlib.redirect_stdout(io.StringIO()):
        changed: Pixels = package.corrupt(pixels, severity=severity, corruption_name=kind.replace("-", "_"), **own)
    return changed


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which the package draws from, and put it back as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _brightness(pixels: Pixels, severity: int) -> Pixels:
    """Raise the value of HSV: hue and saturation stay, so that all channels grow by the same factor."""
    x = pixels / 255.0
    value = x.max(2, keepdims=True)
    brighter = np.minimum(value + _BRIGHTER[severity - 1], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        changed = np.where(value > 0, x * (brighter / value), brighter)
    return np.uint8(np.clip(changed, 0, 1) * 255)  # type: ignore[return-value]  # numpy types the scalar alone


def _glass_blur(pixels: Pixels, severity: int, seed: int) -> Pixels:
    """Blur, replace each pixel by a near one, and blur again.

    Published as a swap of both pixels, which on colours copies one over the other.
    """
    from scipy import ndimage

    sigma, reach, rounds = _GLASS[severity - 1]
    height, width = pixels.shape[:2]
    blurred = np.uint8(ndimage.gaussian_filter(pixels / 255.0, (sigma, sigma, 0), mode="nearest") * 255)
    moved = blurred.reshape(-1, 3)
    itself = np.arange(height * width)
    # in the published order, from the last pixel to the first
    inside = itself.reshape(height, width)[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1][::-1, ::-1]
    draws = np.random.RandomState(seed)
    for _ in range(rounds):
        right, down = draws.randint(-reach, reach, size=(inside.size, 2)).T
        origin = itself.copy()
        origin[inside.ravel()] += down * width + right
        # what comes from a pixel replaced before, in the same round, comes from where that one came from
        moves = origin > itself
        first = np.where(moves & (origin[origin] != origin), origin, itself)
        while np.any((further := first[first]) != first):
            first = further
        moved = moved[origin[first]]
    changed = ndimage.gaussian_filter(moved.reshape(pixels.shape) / 255.0, (sigma, sigma, 0), mode="nearest")
    return np.uint8(np.clip(changed, 0, 1) * 255)  # type: ignore[return-value]  # numpy types the scalar alone


def _zoom_blur(pixels: Pixels, severity: int) -> Pixels:
    """Return the mean of the image and of its middle stretched by every factor, cut at the right and below."""
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None] / 255.0).float()
    sides = pixels.shape[:2]
    step, end = _ZOOMS[severity - 1]
    factors = np.arange(1, end, step)
    total = x.clone()
    for factor in factors:
        parts = [math.ceil(side / factor) for side in sides]
        top, left = ((side - part) // 2 for side, part in zip(sides, parts, strict=True))
        middle = x[..., top : top + parts[0], left : left + parts[1]]
        size = [round(part * factor) for part in parts]
        stretched = torch.nn.functional.interpolate(middle, size, mode="bilinear", align_corners=True)
        total += stretched[..., : sides[0], : sides[1]]
    mean = (total / (len(factors) + 1)).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    return np.uint8(mean * 255)  # type: ignore[return-value]  # numpy types the scalar alone
