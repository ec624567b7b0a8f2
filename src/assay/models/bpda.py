# shape: a file for each wrapper around a module
"""Preprocessing that has no useful gradient, passed through backwards as if it had one (BPDA)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from assay.core.errors import BadInput
from assay.core.tensors import valued

Image = Callable[[Tensor], Tensor]


class Straight(nn.Module):
    """`forward_module(x)` forwards; backwards the gradient of `backward`, of the identity where none is given.

    Backward pass differentiable approximation, Athalye et al. 2018, "Obfuscated gradients". `forward_module` is any
    callable `[N, *S] -> [N, *T]`, `backward` a differentiable one of the same shapes, near it. Raises `BadInput`
    where the shapes of the two differ.
    """

    def __init__(self, forward_module: Image, backward: Image | None = None) -> None:
        super().__init__()
        self.through = forward_module
        self.back = backward

    def forward(self, x: Tensor) -> Tensor:
        """Return what the callable returns, exactly."""
        with torch.no_grad():
            there = self.through(x.detach())
        back = x if self.back is None else self.back(x)
        if back.shape != there.shape:
            fix = "Give a backward that returns the same shape."
            raise BadInput(f"BPDA goes forwards to {list(there.shape)} and backwards to {list(back.shape)}. {fix}")
        return valued(back, there.to(back))


class Bpda(nn.Module):
    """`model(preprocess(x))` for attacks: as `model` behind `preprocess`, with a gradient past `preprocess`.

    `preprocess` is any callable on images `[N, C, H, W]`: rounding, JPEG, a denoiser. Its own gradient is replaced by
    that of `backward`, or of the identity. The answers are those of the plain composition.
    """

    def __init__(self, preprocess: Image, model: nn.Module, backward: Image | None = None) -> None:
        super().__init__()
        self.preprocess = Straight(preprocess, backward)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        return self.model(self.preprocess(x))  # type: ignore[no-any-return]  # what a module returns is untyped
