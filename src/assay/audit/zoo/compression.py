"""JPEG in front of the network."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from assay.audit.zoo.cut import without_slope
from assay.core.errors import BadInput


class Jpeg(nn.Module):
    """Images written as JPEG and read again, by Pillow, where no gradient goes. For one channel or three."""

    def __init__(self, module: nn.Module, quality: int = 75) -> None:
        super().__init__()
        self.module, self.quality = module, quality

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"quality={self.quality}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`. Raises `BadInput` for images that JPEG does not know."""
        if x.shape[1] not in (1, 3):
            raise BadInput(f"JPEG is for 1 or 3 channels, and the images have {x.shape[1]}. Take another defence.")
        squeezed = torch.stack([self._squeezed(image) for image in x.detach().cpu()])
        return self.module(without_slope(squeezed, x))  # type: ignore[no-any-return]  # what a module returns is untyped

    def _squeezed(self, image: Tensor) -> Tensor:
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels).save(file, "jpeg", quality=self.quality)
        back = np.asarray(Image.open(file), dtype=np.float32) / 255
        return torch.from_numpy(back).reshape(*back.shape[:2], -1).permute(2, 0, 1)
