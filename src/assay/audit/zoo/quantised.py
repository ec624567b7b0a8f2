"""Defences that count grey levels: steps are flat, so nothing of the network's slope comes through."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.audit.zoo.cut import without_slope


class Rounding(nn.Module):
    """Pixels rounded to `bits` bits before the network sees them."""

    def __init__(self, module: nn.Module, bits: int = 5) -> None:
        super().__init__()
        self.module, self.bits = module, bits

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"bits={self.bits}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`; autograd gives rounding the slope 0 by itself."""
        steps = 2**self.bits - 1
        return self.module((x * steps).round() / steps)  # type: ignore[no-any-return]  # what a module returns is untyped


class Thermometer(nn.Module):
    """Pixels as a thermometer code of `levels` bits, read back to grey levels so that any network takes them.

    Bit i says whether the pixel is above i / levels. The original network is trained on the bits themselves.
    """

    def __init__(self, module: nn.Module, levels: int = 16) -> None:
        super().__init__()
        self.module, self.levels = module, levels

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"levels={self.levels}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        # the last threshold lies below 1, so that white sets all bits and black none
        thresholds = torch.arange(self.levels, dtype=x.dtype, device=x.device) / self.levels
        code = (x.unsqueeze(-1) > thresholds).to(x.dtype)
        return self.module(without_slope(code.mean(-1), x))  # type: ignore[no-any-return]  # what a module returns is untyped
