"""The small network of scripts/small_files.py in torch, from its weights alone, with 50 digits and their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "small"


def small_net() -> nn.Module:
    """Return the network: `[N, 1, 28, 28]` in [0, 1] -> logits `[N, 10]`."""
    known = np.load(FOLDER / "small.npz")
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU()), nn.Flatten(), nn.Linear(576, 10)
    )
    # kernels are [height, width, in, out], and the dense one takes channels last
    dense = torch.from_numpy(known["kernel_2"]).view(6, 6, 16, 10).permute(3, 2, 0, 1).reshape(10, 576)
    kernels = [torch.from_numpy(known[f"kernel_{at}"]).permute(3, 2, 0, 1) for at in range(2)]
    layers = [net[0], net[2], net[5]]
    with torch.no_grad():
        for at, (layer, kernel) in enumerate(zip(layers, [*kernels, dense], strict=True)):
            layer.weight.copy_(kernel)
            layer.bias.copy_(torch.from_numpy(known[f"bias_{at}"]))
    return net.eval().requires_grad_(False)


def digits() -> tuple[Tensor, Tensor]:
    """Return 50 images `[50, 1, 28, 28]` on the 8-bit grid, and their labels."""
    known = np.load(FOLDER / "small.npz")
    images = torch.from_numpy(known["images"]).permute(0, 3, 1, 2).float() / 255
    return images.contiguous(), torch.from_numpy(known["labels"]).long()
