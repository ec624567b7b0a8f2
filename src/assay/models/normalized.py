"""Modules that stand around a network: normalisation in front of it, logarithms or a threshold behind it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.answers import checked_logits, gives_one_score
from assay.core.errors import BadInput, ModelError


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
        return self.module(((x - self.mean) / self.std).to(x.dtype))  # type: ignore[no-any-return]  # untyped


class LogProbabilities(nn.Module):
    """The logarithm of a network that returns probabilities, so that attacks climb what has a gradient.

    Probabilities are kept above float32's smallest normal number: the logarithm of 0 has no gradient either. Of one
    probability p per image, that of class 1, it is `[log(1 - p), log p]`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities `[N, K]` for images `x`. Raises `ModelError` for a single one outside [0, 1]."""
        probabilities: Tensor = self.module(x)
        if gives_one_score(probabilities, len(x)):
            probabilities = _both_sides(probabilities.reshape(-1, 1))
        return probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


class LogOdds(nn.Module):
    """The log-odds of a network that returns a probability for every label, each above 0 where it is above one half.

    Probabilities and what they leave to 1 are kept above float32's smallest normal number.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return scores `[N, K]` for images `x`. Raises `ModelError` for what are no probabilities."""
        p: Tensor = self.module(x)
        _check_probabilities(p)
        p, tiny = p.float() if p.dtype.itemsize < 4 else p, torch.finfo(torch.float32).tiny
        return p.clamp_min(tiny).log() - (1 - p).clamp_min(tiny).log()


class Thresholded(nn.Module):
    """A network with one score per image, which means class 1 above `threshold`: the score minus the threshold.

    Raises `BadInput` for a threshold that is not finite.
    """

    def __init__(self, module: nn.Module, threshold: float) -> None:
        super().__init__()
        if not math.isfinite(threshold):
            raise BadInput(f"threshold is {threshold}, expected a finite number: class 1 is what scores above it.")
        self.module = module
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, 1]` for images `x`: above 0 for class 1. Raises `ModelError` for several scores per image."""
        return _one_score(self.module(x), len(x), self.threshold) - self.threshold

    def extra_repr(self) -> str:
        """Say which threshold it is."""
        return f"threshold={self.threshold!r}"


class ThresholdedProbability(nn.Module):
    """A network with one probability p per image, which means class 1 above `threshold`.

    Its logits are the logarithms of two probabilities that are one half each at the threshold: the odds of p divided by
    those of the threshold. Raises `BadInput` for a threshold that is not between 0 and 1.
    """

    def __init__(self, module: nn.Module, threshold: float) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise BadInput(
                f"threshold is {threshold}, expected a probability above 0 and below 1: class 1 is what lies above it."
            )
        self.module = LogProbabilities(module)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 2]` for images `x`. Raises `ModelError` for more than one probability per image."""
        logs: Tensor = self.module(x)
        if logs.shape[1] != 2:
            _one_score(logs, len(x), self.threshold)
        at = logs.new_tensor([math.log1p(-self.threshold), math.log(self.threshold)])
        return (logs - at).log_softmax(1)

    def extra_repr(self) -> str:
        """Say which threshold it is."""
        return f"threshold={self.threshold!r}"


def log_probabilities(module: nn.Module) -> nn.Module:
    """Return a network that returns probabilities as one that returns logits, in the same mode."""
    wrapped: nn.Module = LogProbabilities(module)
    if isinstance(module, Thresholded):
        wrapped = ThresholdedProbability(module.module, module.threshold)
    # a frozen TorchScript module has no mode, and an exported program refuses to change its own
    wrapped.training = getattr(module, "training", False)
    return wrapped


def _one_score(output: Tensor, n: int, threshold: float) -> Tensor:
    if not gives_one_score(output, n):
        scores = checked_logits(output, n).shape[1]
        raise ModelError(
            f"The model returns {scores} scores per image, and the threshold {threshold:g} is for a model with one. "
            "Leave the threshold out."
        )
    return output.reshape(n, 1)


def _check_probabilities(p: Tensor) -> None:
    if bool(((p < 0) | (p > 1)).any()):
        raise ModelError(
            f"The model returns {float(p.min()):.4g} to {float(p.max()):.4g} where probabilities were stated, expected "
            "0 to 1. Leave outputs=probabilities out for scores that mean yes above 0."
        )


def _both_sides(p: Tensor) -> Tensor:
    _check_probabilities(p)
    p = p if p.dtype.itemsize > 2 else p.float()
    return torch.cat([1 - p, p], 1)


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
