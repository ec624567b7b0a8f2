"""An optimiser inside the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.defenses.input_transformations import without_slope


class TestTimeOptimisation(nn.Module):
    """Before it answers, the network moves the image, by signed gradient steps, towards what it already believes.

    The moved image is used as a constant: what an attack gets back is a gradient of zero.
    """

    __test__ = False  # pytest would take the name for a test

    def __init__(self, module: nn.Module, steps: int = 2, size: float = 0.03) -> None:
        super().__init__()
        self.module, self.steps, self.size = module, steps, size

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"steps={self.steps}, size={self.size}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        moved = x.detach()
        believed = self.module(moved).detach().argmax(1)
        for _ in range(self.steps):
            # the caller may only want the answer; the optimiser wants gradients all the same
            with torch.enable_grad():
                moved = moved.requires_grad_()
                loss = F.cross_entropy(self.module(moved), believed, reduction="sum")
                (slope,) = torch.autograd.grad(loss, moved)
            moved = (moved - self.size * slope.sign()).clamp(0, 1).detach()
        return self.module(without_slope(moved, x))  # type: ignore[no-any-return]  # what a module returns is untyped
