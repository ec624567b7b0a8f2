"""k-winners-take-all instead of rectified linear units."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from assay.core.errors import BadInput


class Winners(nn.Module):
    """Keeps the largest `share` of an image's activations in a layer, at least `least` of them, and drops the others.

    The winners take over the losers' share of the layer's sum: the network was trained on all of it.
    """

    def __init__(self, share: float, least: int = 16) -> None:
        super().__init__()
        self.share, self.least = share, least

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"share={self.share}, least={self.least}"

    def forward(self, h: Tensor) -> Tensor:
        """Return the activations `h`, at least 0, with the losers at zero."""
        values = h.flatten(1)
        count = min(max(self.least, round(self.share * values.shape[1])), values.shape[1])
        bar = values.topk(count, dim=1).values[:, -1:]
        winners = torch.where(values >= bar, values, 0.0).relu()
        share = winners.sum(1, keepdim=True) / values.relu().sum(1, keepdim=True).clamp_min(1e-6)
        return (winners / share.detach().clamp_min(1e-6)).view_as(h)


def k_winners(module: nn.Module, share: float = 0.03) -> nn.Module:
    """Return a copy of `module` with `Winners` in place of each ReLU and ReLU6.

    Raises `BadInput` where there is none: an activation that is a plain function cannot be seen from outside.
    """
    found = copy.deepcopy(module)
    rectifiers = (nn.ReLU, nn.ReLU6)
    places = [
        (parent, name)
        for parent in found.modules()
        for name, child in parent.named_children()
        if isinstance(child, rectifiers)
    ]
    if not places:
        raise BadInput("The network has no ReLU or ReLU6 modules to replace by winners. Take another defence.")
    for parent, name in places:
        setattr(parent, name, Winners(share))
    return found
