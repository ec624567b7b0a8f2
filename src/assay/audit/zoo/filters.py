"""Filters in front of the network whose gradient is cut."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.audit.zoo.cut import without_slope


class DetachedFilter(nn.Module):
    """A 3x3 Gaussian blur, applied outside the graph: the blur has a slope, and autograd is kept from it."""

    def __init__(self, module: nn.Module, sigma: float = 0.6) -> None:
        super().__init__()
        self.module, self.sigma = module, sigma

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"sigma={self.sigma}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        line = torch.exp(-(torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype, device=x.device) ** 2) / (2 * self.sigma**2))
        kernel = torch.outer(line, line) / line.sum() ** 2
        channels = x.shape[1]
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        blurred = F.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels)
        return self.module(without_slope(blurred, x))  # type: ignore[no-any-return]  # what a module returns is untyped


class MedianFilter(nn.Module):
    """Each pixel replaced by the median of the `side` x `side` pixels around it, without a gradient."""

    def __init__(self, module: nn.Module, side: int = 3) -> None:
        super().__init__()
        self.module, self.side = module, side

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"side={self.side}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        before = (self.side - 1) // 2
        after = self.side - 1 - before
        padded = F.pad(x.detach(), (before, after, before, after), mode="replicate")
        windows = padded.unfold(2, self.side, 1).unfold(3, self.side, 1).flatten(4)
        return self.module(without_slope(windows.median(4).values, x))  # type: ignore[no-any-return]  # what a module returns is untyped
