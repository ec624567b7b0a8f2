"""Defences behind the network: they change what its logits look like, and hardly ever its answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LogitScaling(nn.Module):
    """Logits times a constant: the answer stays, and the softmax in float32 has nothing left to round to."""

    def __init__(self, module: nn.Module, factor: float = 1000.0) -> None:
        super().__init__()
        self.module, self.factor = module, factor

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"factor={self.factor}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        return self.module(x) * self.factor  # type: ignore[no-any-return]  # what a module returns is untyped


class SaturatedOutput(nn.Module):
    """Log-probabilities of a sharpened softmax, clipped to [floor, 1 - floor]: flat wherever the network is sure.

    Clipping probabilities before their logarithm is a common guard against minus infinity.
    """

    def __init__(self, module: nn.Module, sharpness: float = 10.0, floor: float = 1e-6) -> None:
        super().__init__()
        self.module, self.sharpness, self.floor = module, sharpness, floor

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"sharpness={self.sharpness}, floor={self.floor}"

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities `[N, K]` of images `x`."""
        logits: Tensor = self.module(x)
        return (logits * self.sharpness).softmax(1).clamp(self.floor, 1 - self.floor).log()


class NoisyLogits(nn.Module):
    """Noise on the logits, drawn afresh in each pass as a random wave over the image: small, and very steep.

    It is at most `size` of the spread (standard deviation) of an image's logits, which seldom changes the answer; its
    slope hides that of the network.
    """

    def __init__(self, module: nn.Module, size: float = 0.2, steepness: float = 10.0) -> None:
        super().__init__()
        self.module, self.size, self.steepness = module, size, steepness

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"size={self.size}, steepness={self.steepness}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        logits: Tensor = self.module(x)
        at = (torch.randn_like(x) * x).flatten(1).sum(1, keepdim=True)
        # each logit hears the wave at a pitch of its own; the phase hides where on the wave the image lies
        pitches, phases = self.steepness * torch.randn_like(logits), 2 * torch.pi * torch.rand_like(logits)
        spread = logits.detach().std(1, keepdim=True)
        return logits + self.size * spread * torch.cos(pitches * at + phases)
