# shape: a file for each kind of detector
"""Detectors that read the network's answer alone."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.signals import signals_of
from assay.defenses.layers import Detection


class MaxSoftmax(nn.Module):
    """The negative of the highest probability (Hendrycks and Gimpel 2017)."""

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        seen = signals_of(inner, x)
        return Detection(seen, -seen.logits.float().softmax(1).amax(1))


class LogitMargin(nn.Module):
    """The negative of the highest logit's lead over the second: -(z1 - z2)."""

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        seen = signals_of(inner, x)
        first, second = seen.logits.topk(2, 1).values.unbind(1)
        return Detection(seen, second - first)


class Energy(nn.Module):
    """The free energy -T logsumexp(z / T) (Liu et al. 2020)."""

    def __init__(
        self, *, temperature: Annotated[float, Option("What the logits are divided by, T.", above=True)] = 1.0
    ) -> None:
        super().__init__()
        self.temperature = temperature

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"temperature={self.temperature}"

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        seen = signals_of(inner, x)
        return Detection(seen, -self.temperature * (seen.logits.float() / self.temperature).logsumexp(1))
