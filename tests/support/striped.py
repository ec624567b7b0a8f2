"""Pictures of 8 x 8 pixels in four classes, and a network with dropout, convolutions and two linear layers for them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from assay.models.seeded import seeded


def pictures(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return grey pictures float32 `[n, 1, 8, 8]`, a bright bar in one of four places and noise, and their labels."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 4
    x = 0.35 * torch.rand(n, 1, 8, 8, generator=draw)
    for k in range(4):
        bright = 0.3 + 0.35 * torch.rand(int((y == k).sum()), 1, 8, 2, generator=draw)
        x[y == k, :, :, 2 * k : 2 * k + 2] += bright
    return x.clamp(0, 1), y


@functools.cache
def network() -> nn.Module:
    """Return the network, trained for a second on 400 pictures."""
    with seeded(0):
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 4),
        )  # fmt: skip
        x, y = pictures(400, seed=1)
        descent = torch.optim.Adam(net.parameters(), lr=0.01)
        for at in torch.randperm(1200).remainder(400).split(40):
            descent.zero_grad()
            nn.functional.cross_entropy(net(x[at]), y[at]).backward()
            descent.step()
    return net.eval().requires_grad_(False)
