"""The cosine basis of images (DCT-II): smooth directions, which models feel more than single pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosines(side: int, count: int, like: Tensor) -> Tensor:
    """Return the `count` lowest cosine waves along a side, `[side, count]`, columns of length 1 and orthogonal."""
    place = torch.arange(side, dtype=torch.float64, device=like.device)[:, None]
    wave = torch.arange(count, dtype=torch.float64, device=like.device)
    basis = torch.cos(math.pi / side * (place + 0.5) * wave)
    unit: Tensor = basis / torch.linalg.vector_norm(basis, dim=0)
    return unit.to(like.dtype)


def from_waves(heights: Tensor) -> Tensor:
    """Return the images `[N, C, H, W]` whose waves have the `heights` (same shape): the inverse transform."""
    height, width = heights.shape[-2:]
    images: Tensor = cosines(height, height, heights) @ heights @ cosines(width, width, heights).T
    return images
