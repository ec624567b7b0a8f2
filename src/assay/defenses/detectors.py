"""Detectors that read the network's answer alone."""

from __future__ import annotations

from torch import Tensor, nn

from assay.core.signals import signals_of
from assay.defenses.layers import Detection


class MaxSoftmax(nn.Module):
    """The negative of the highest probability (Hendrycks and Gimpel 2017)."""

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        seen = signals_of(inner, x)
        return Detection(seen, -seen.logits.softmax(1).amax(1))
