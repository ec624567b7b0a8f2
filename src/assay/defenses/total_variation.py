# shape: a file for each defence with a solver
"""Total variation minimisation: some pixels are kept, and the smoothest image near them is shown."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.draws import current
from assay.core.tensors import valued


class TotalVariation(nn.Module):
    """The image z that minimises sum_kept (z - x)^2 + weight TV(z), with pixels kept at random (Guo et al. 2018).

    TV sums the lengths of the differences to the pixels below and right, channel by channel. The minimum is approached
    by the primal-dual algorithm of Chambolle and Pock 2011, in a fixed number of steps. Backwards the identity: average
    over looks.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, Option("Weight of the total variation.", above=True)] = 0.03,
        keep: Annotated[float, Option("How many pixels are kept.", "share", above=True, most=1)] = 0.5,
        steps: Annotated[int, Option("Steps of the solver.", "steps")] = 100,
    ) -> None:
        super().__init__()
        self.weight, self.keep, self.steps = weight, keep, steps

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"weight={self.weight:g}, keep={self.keep:g}, steps={self.steps}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the smoothed images, in [0, 1]."""
        with torch.no_grad():
            kept = current(x).uniform("kept", 1, *x.shape[2:]) < self.keep
            there = smoothest(x.detach().float(), kept.float(), self.weight, self.steps).clamp(0, 1).to(x.dtype)
        return valued(x, there) if x.requires_grad else there


def smoothest(x: Tensor, kept: Tensor, weight: float, steps: int) -> Tensor:
    """Return z `[N, C, H, W]`, which minimises sum kept (z - x)^2 + weight TV(z); `kept` `[N, 1, H, W]` is 0 or 1."""
    # the product is one over the squared norm of the differences; measured on digits, this ratio converges fastest
    pull, push = 0.05 / weight, 2.5 * weight
    z = x * kept
    ahead = z
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(steps):
        down[:, :, :-1] += push * (ahead[:, :, 1:] - ahead[:, :, :-1])
        right[..., :-1] += push * (ahead[..., 1:] - ahead[..., :-1])
        length = (down.square() + right.square()).sqrt().div_(weight).clamp_min_(1)
        down /= length
        right /= length
        # minus the adjoint of the differences
        moved = z + pull * down
        moved[:, :, 1:] -= pull * down[:, :, :-1]
        moved += pull * right
        moved[..., 1:] -= pull * right[..., :-1]
        moved = (moved + 2 * pull * kept * x) / (1 + 2 * pull * kept)
        ahead, z = 2 * moved - z, moved
    return z
