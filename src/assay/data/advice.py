"""How to bring pixels into [0, 1], from the values that images have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_NORMALISED = 20.0
"""Pixels further from 0 than this are no normalised ones: the brightest of usual normalisations is below 3."""

_WHITES = {16: "digits of scikit-learn", 255: "8 bits", 1023: "10 bits", 4095: "12 bits", 16383: "14 bits",
           65535: "16 bits"}  # fmt: skip


def range_advice(images: Sequence[Tensor]) -> str:
    """Return what to do to images whose pixels are not in [0, 1]; all of `images` are of one data set."""
    values = [image[torch.isfinite(image)] for image in images if image.numel()]
    low = min(float(one.min()) for one in values if one.numel())
    high = max(float(one.max()) for one in values if one.numel())
    whole = all(bool((one == one.round()).all()) for one in values)
    seen = "the images looked at" if len(values) > 1 else "this image"
    if low < 0:
        return _of_negative(low, high, seen, whole=whole)
    if not whole and high <= 2:
        clamp = "If resizing overshot, cut it: image.clamp(0, 1). " if high <= 1.25 else ""
        return f"{clamp}Leave normalisation to the model: give images in [0, 1]."
    return _by_white(high, seen, whole=whole)


def _of_negative(low: float, high: float, seen: str, *, whole: bool) -> str:
    largest = max(-low, high)
    if not whole and largest <= _NORMALISED:
        back = "(image + 1) / 2" if largest <= 1 else "image * std + mean"
        return (
            f"Leave normalisation to the model: give images in [0, 1], which {back} brings back, and put the "
            "normalisation in front of the model (assay.models.Normalized(module, mean, std))."
        )
    kind = "Signed whole numbers" if whole else "Such values"
    return (
        f"{kind} ({low:g} to {high:g} in {seen}) come into [0, 1] by (image - LOW) / (HIGH - LOW), with the darkest "
        "and the brightest value that your files can have, the same for all images, as the model was trained."
    )


def _by_white(high: float, seen: str, *, whole: bool) -> str:
    white = next((one for one in _WHITES if high <= one + 0.5), None)
    # far below a full scale it is anyone's guess which scale is meant
    if white is None or high < (white / 2 if white > 16 else 9) or (white == 16 and not whole):
        normalised = "" if whole or high > _NORMALISED else " If they are normalised, leave that to the model."
        return (
            f"Divide it by the value that stands for white in your data (the brightest in {seen} is {high:g}), the "
            f"same for all images.{normalised}"
        )
    return (
        f"Divide it by {white}. That is white in {_WHITES[white]}; the brightest value in {seen} is {high:g}. If "
        f"another value is white in your data, divide by that, the same for all images (npz: and hdf5: take "
        f"?scale={white})."
    )
