"""Dropout that stays on in evaluation, without an answer depending on its batch."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.tensors import flat

_BY_CHANNEL = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class DropoutOn(nn.Module):
    """A copy of `module` whose dropout is on in eval mode too, as when a network is tested without entering it.

    The masks are drawn from the pixels of the image: an answer is the same in every batch and in every run. Passes
    with gradients and passes without draw different masks, as an attack and the check of its result would. The
    masks are blind to `.train()` and `.eval()`.
    """

    def __init__(self, module: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.module = copy.deepcopy(module)
        self.seed = seed
        self._source = _Source()
        layers = [(name, layer) for name, layer in self.module.named_modules() if _probability(layer) is not None]
        for number, (name, layer) in enumerate(layers):
            drop = _Drop(_probability(layer) or 0.0, isinstance(layer, _BY_CHANNEL), number, self._source)
            parent, _, own = name.rpartition(".")
            setattr(self.module.get_submodule(parent), own, drop)

    def forward(self, x: Tensor) -> Tensor:
        """Return the module's output for images `x`, with masks that follow from each image."""
        which = "with gradients" if torch.is_grad_enabled() else "without"
        self._source.draws = Draws(_fingerprint(x)).fold(self.seed).fold(which)
        return self.module(x)  # type: ignore[no-any-return]


@dataclasses.dataclass
class _Source:
    # where the layers find the draws of the batch that is passing through
    draws: Draws | None = None


class _Drop(nn.Module):
    def __init__(self, p: float, by_channel: bool, number: int, source: _Source) -> None:
        super().__init__()
        self.p, self.by_channel, self.number, self._source = p, by_channel, number, source

    def extra_repr(self) -> str:
        return f"p={self.p}, by_channel={self.by_channel}"

    def forward(self, h: Tensor) -> Tensor:
        if self.p >= 1:
            return torch.zeros_like(h)
        assert self._source.draws is not None, "DropoutOn fills it before the module runs"
        shape = h.shape[1:2] if self.by_channel else h.shape[1:]
        kept = self._source.draws.uniform(f"dropout {self.number}", *shape) >= self.p
        return h * kept.view(*kept.shape, *[1] * (h.ndim - kept.ndim)).to(h.dtype) / (1 - self.p)


def _probability(layer: nn.Module) -> float | None:
    return layer.p if isinstance(layer, (nn.Dropout, *_BY_CHANNEL)) else None


def _fingerprint(x: Tensor) -> Tensor:
    """Return a 64-bit number per image that any change of a pixel changes (int64 `[N]`)."""
    bits = flat(x.detach().float()).contiguous().view(torch.int32).to(torch.int64)
    at = torch.arange(bits.shape[1], device=x.device)
    # odd multipliers, spread over all 64 bits; the sum wraps around
    return (bits * (at * -7046029254386353131 * 2 + 1)).sum(1)
