"""A linear model of 12 x 12 pictures in three classes, and pictures of noise, for patches that learn in a second."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.data import Data
from assay.models import Classifier

SIZE, CLASSES = 12, ("grey heron", "crane", "crane bird")


def images(n: int, seed: int = 1, channels: int = 3) -> Tensor:
    return torch.rand(n, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def data(n: int, seed: int = 1, channels: int = 3) -> Data:
    pixels = images(n, seed, channels)
    ids = tuple(f"toy/{seed}/{i}" for i in range(n))
    labels = tuple(i % 3 for i in range(n))
    return Data("toy", f"toy-{n}-{seed}-{channels}", ids, labels, CLASSES, (channels, SIZE, SIZE), pixels.__getitem__)


def model(seed: int = 0, channels: int = 3) -> Classifier:
    """Return a network that answers which channel is brightest in some window of 3 x 3, wherever that lies."""
    network = nn.Sequential(nn.Conv2d(channels, 3, 3, bias=False), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    weight = 0.02 * torch.randn(3, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    for c in range(3):
        weight[c] -= 0.1
        weight[c, c % channels] += 0.3
    with torch.no_grad():
        network[0].weight.copy_(weight)
    shape = (channels, SIZE, SIZE)
    return Classifier(network.eval(), f"toy-{seed}", f"digest-{seed}", shape, classes=CLASSES)
