"""Steps that change an image before the network sees it: `[N, C, H, W]` in [0, 1] -> the same shape.

Forward is what was published, exactly. Where that has no useful gradient, another one stands in for it backwards.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.tensors import valued


class BitDepth(nn.Module):
    """Grey levels rounded to `bits` bits, half to even (Xu et al. 2018).

    Backwards a staircase of sigmoids with slope 10 (2^bits - 1) at its steps: the identity says nothing at 1 bit.
    """

    def __init__(self, bits: Annotated[int, Option("Bits that are left of each value.", "bits", most=8)] = 1) -> None:
        super().__init__()
        self.bits = bits

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"bits={self.bits}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the rounded images."""
        steps = 2**self.bits - 1
        there: Tensor = (x.detach() * steps).round() / steps
        if not x.requires_grad:
            return there
        edges = (torch.arange(steps, dtype=x.dtype, device=x.device) + 0.5) / steps
        back = torch.zeros_like(x)
        for edge in edges:
            back = back + torch.sigmoid(10 * steps * (x - edge))
        return valued(back / steps, there)
