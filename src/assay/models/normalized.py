"""Modules that stand around a network: normalisation in front of it, logarithms behind it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.errors import BadInput


class Normalized(nn.Module):
    """`(x - mean) / std` per channel, then `module`: a network trained on normalised images, asked about [0, 1].

    `mean` and `std` are in pixel units on [0, 1], one number per channel. Raises `BadInput` for lengths that
    differ, for numbers that are not finite and for a `std` that is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        check_normalisation(mean, std)
        self.module = module
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the module's output for images `x`, `[N, C, H, W]` in [0, 1]."""
        # in the precision of the images, which is the network's: the buffers may be finer
        return self.module(((x - self.mean) / self.std).to(x.dtype))  # type: ignore[no-any-return]


class LogProbabilities(nn.Module):
    """The logarithm of a network that returns probabilities, so that attacks climb what has a gradient.

    Probabilities are kept above float32's smallest normal number: the logarithm of 0 has no gradient either.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities `[N, K]` for images `x`."""
        probabilities: Tensor = self.module(x)
        return probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise `BadInput` unless `mean` and `std` are finite, equally long and `std` is positive."""
    finite = all(abs(value) < float("inf") for value in (*mean, *std))
    if not finite or len(mean) != len(std) or not mean or min(std) <= 0:
        raise BadInput(
            f"mean {tuple(mean)} and std {tuple(std)} are no normalisation; expected one finite number per channel "
            "each and std above 0, such as mean=0.485,0.456,0.406 and std=0.229,0.224,0.225."
        )
    if max(mean) > 1 or max(std) > 1:
        raise BadInput(
            f"mean {tuple(mean)} and std {tuple(std)} are in grey levels; expected pixel units on [0, 1]. "
            "Divide them by 255."
        )


def normalisation_of(module: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std of the one normalisation layer inside `module`; None when there is none, or several.

    Known layers are `Normalized` and torchvision's `Normalize`, where it stands as a module in a network.
    """
    layers = _torchvision_layers()
    found = []
    for part in module.modules():
        if isinstance(part, Normalized):
            found.append((part.mean.flatten().tolist(), part.std.flatten().tolist()))
        elif isinstance(part, layers):
            found.append(([float(v) for v in part.mean], [float(v) for v in part.std]))
    if len(found) != 1:
        return None
    mean, std = found[0]
    return tuple(mean), tuple(std)


def _torchvision_layers() -> tuple[type[Any], ...]:
    # a module of a package that nobody has imported cannot stand in a network, and importing it takes a second
    if "torchvision" not in sys.modules:
        return ()
    from torchvision.transforms import Normalize, v2

    return (Normalize, v2.Normalize)
