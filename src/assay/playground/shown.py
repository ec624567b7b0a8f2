"""Images as the page shows them: PNG, lossless, and changes magnified so that eyes see them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assay.core.goal import scored
from assay.models import Classifier

_FACTORS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def eight_bits(image: Tensor) -> Tensor:
    """Return an image `[C, H, W]` in [0, 1] as uint8, rounded to the nearest."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def png(image: Tensor) -> bytes:
    """Return an image `[C, H, W]` as PNG; of images with 2 channels the first, with more than 3 the first three."""
    values = eight_bits(image)
    shown = values[:3] if len(values) >= 3 else values[:1]
    array = shown.permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array)).save(
        stream, "PNG", compress_level=1
    )
    return stream.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Return bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def change(result: Tensor, image: Tensor) -> tuple[Tensor, int]:
    """Return the change around mid-grey, magnified, and by what: the largest factor at which no value is cut off."""
    moved = result - image
    most = float(moved.abs().max()) if moved.numel() else 0.0
    factor = max((one for one in _FACTORS if one * most <= 0.5), default=1) if most else 1
    return (0.5 + factor * moved).clamp(0, 1), factor


def top_five(logits: Tensor, model: Classifier) -> list[dict[str, Any]]:
    """Return the five classes with the largest shares of the softmax of `logits` `[1, K]`; none without an order."""
    if not bool(scored(logits).all()):
        return []
    shares = logits[0].double().softmax(0)
    last = len(shares) - 1
    several = shares.topk(min(5, len(shares)))
    return [
        {
            "class": at,
            "name": "(refused)" if model.rejects and at == last else name_of(model, at),
            "share": share,
        }
        for at, share in zip(several.indices.tolist(), several.values.tolist(), strict=True)
    ]


def name_of(model: Classifier, at: int) -> str:
    """Return what a class is called."""
    return model.classes[at] if model.classes and at < len(model.classes) else str(at)
