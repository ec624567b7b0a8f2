"""Random resizing and padding in front of the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.audit.zoo.cut import without_slope


class RandomResizePad(nn.Module):
    """Each image shrunk to a random size and put at a random place on black, afresh in each pass.

    Xie et al. enlarge 299 to 299..330 and pad to 331; a network of one size of image needs the other way round. As in
    libraries for pictures the result is in 8 bits, where no gradient goes: with one, PGD breaks MNIST all the same.
    """

    def __init__(self, module: nn.Module, smallest: float = 0.88) -> None:
        super().__init__()
        self.module, self.smallest = module, smallest

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"smallest={self.smallest}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        moved = torch.cat([self._moved(image) for image in torch.split(x.detach(), 1)])
        return self.module(without_slope((moved * 255).round() / 255, x))  # type: ignore[no-any-return]  # what a module returns is untyped

    def _moved(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        share = self.smallest + (1 - self.smallest) * float(torch.rand(()))
        size = round(share * height), round(share * width)
        small = F.interpolate(image, size, mode="bilinear", antialias=True)
        top, left = (int(torch.randint(room + 1, ())) for room in (height - size[0], width - size[1]))
        return F.pad(small, (left, width - size[1] - left, top, height - size[0] - top))
