"""Defences in the network or behind it: scaled, noisy or saturated outputs, winners, distillation."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from assay.core.errors import BadInput
from assay.models import load_model


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


def distilled(module: nn.Module) -> nn.Module:
    """Return the network of `zoo:mnist-distilled-t100`, in place of one of its architecture.

    Distilling means training. Raises `BadInput` for any other architecture than that of `zoo:mnist-cnn`.
    """
    student = load_model("zoo:mnist-distilled-t100").module
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (module, student)]
    if shapes[0] != shapes[1]:
        raise BadInput(
            "Distillation trains a network, and Assay ships one: of the architecture of 'zoo:mnist-cnn'. Give that "
            "one, or train your own: assay train distill."
        )
    return student
