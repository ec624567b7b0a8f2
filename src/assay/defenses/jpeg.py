"""JPEG in front of a network: forwards Pillow's, backwards one that has a gradient."""

from __future__ import annotations

import functools
import io
import math
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.tensors import valued
from assay.defenses.transformations import Pixels, by_picture


class Jpeg(nn.Module):
    """Images written as JPEG and read again (Dziugaite et al. 2016; Guo et al. 2018 at quality 75).

    Forward is Pillow's of 8-bit values: colours at half the resolution (4:2:0). Backwards the gradient of a JPEG in
    floating point: YCbCr, blocks of 8 x 8 and the quantisation of the same tables, where a coefficient that is rounded
    by d has the slope 1/2 + 6 d^2.
    """

    def __init__(self, quality: Annotated[int, Option("Quality of the JPEG.", most=100)] = 75) -> None:
        super().__init__()
        self.quality = quality

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"quality={self.quality}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the images as they come back. Raises `BadInput` for images of neither 1 nor 3 channels."""
        there = by_picture(x, self._read_back)
        return valued(smooth_jpeg(x, self.quality), there) if x.requires_grad else there

    def _read_back(self, pixels: Pixels) -> Pixels:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", quality=self.quality, subsampling="4:2:0")
        return np.asarray(Image.open(file))


def smooth_jpeg(x: Tensor, quality: int) -> Tensor:
    """Return what JPEG of a quality makes of images `[N, 1 or 3, H, W]` in [0, 1], up to rounding, with a gradient."""
    pixels = x.float() * 255
    bright, colour = (table.to(x.device) for table in quantisation(quality))
    if x.shape[1] == 1:
        return (_blocks_rounded(pixels - 128, bright) + 128).div(255).to(x.dtype)
    to_ycc = _TO_YCC.to(x.device)
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, pixels)
    luma = _blocks_rounded(ycc[:, :1] - 128, bright)
    height, width = x.shape[2:]
    # the last row and column of an odd side is averaged with itself
    even = F.pad(ycc[:, 1:], (0, width % 2, 0, height % 2), mode="replicate")
    chroma = _blocks_rounded(F.avg_pool2d(even, 2), colour)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear")[..., :height, :width]
    back = torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), torch.cat([luma + 128, chroma], 1))
    return back.div(255).to(x.dtype)


def quantisation(quality: int) -> tuple[Tensor, Tensor]:
    """Return the tables `[8, 8]` of a quality (1 to 100), for brightness and for colours, as libjpeg scales them."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    bright, colour = (((table * scale + 50) // 100).clamp(1, 255).float() for table in (_BRIGHT, _COLOUR))
    return bright, colour


def softly_rounded(value: Tensor) -> Tensor:
    """Return rounded values with the slope 1/2 + 6 d^2, where d is the distance to the rounded value.

    It is 1 on average. What is rounded away still counts for a gradient, but less than what is about to tip: on digits
    PGD then leaves fewer images standing than with the slope 1, or with that of a cubic alone, which is 0 at d = 0.
    """
    there = value.detach().round()
    slope = 0.5 + 6 * (value.detach() - there).square()
    return valued(value * slope, there)


def _blocks_rounded(values: Tensor, table: Tensor) -> Tensor:
    # [N, C, H, W] -> the same, with the coefficients of each 8 x 8 block rounded to multiples of the table
    height, width = values.shape[2:]
    down, right = -height % 8, -width % 8
    wide = F.pad(values, (0, right, 0, down), mode="replicate") if down or right else values
    n, channels, tall, long = wide.shape
    blocks = wide.view(n, channels, tall // 8, 8, long // 8, 8).transpose(3, 4)
    cosines = _cosines().to(values.device)
    coefficients = cosines @ blocks @ cosines.T
    rounded = softly_rounded(coefficients / table) * table
    back = (cosines.T @ rounded @ cosines).transpose(3, 4).reshape(n, channels, tall, long)
    return back[..., :height, :width]


@functools.cache
def _cosines() -> Tensor:
    # the orthonormal cosine transform of 8 values
    at = torch.arange(8, dtype=torch.float64)
    table = torch.cos((2 * at[None] + 1) * at[:, None] * math.pi / 16) / 2
    table[0] /= math.sqrt(2)
    return table.float()


_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
# annex K of ITU-T T.81
_BRIGHT = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
_COLOUR = torch.full((8, 8), 99)
_COLOUR[:4, :4] = torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])
