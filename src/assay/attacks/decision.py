"""What attacks share that see labels alone: where they start, and the way from there towards the image."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.attacks.cosine import from_waves
from assay.core.draws import Draws
from assay.core.problem import Problem
from assay.core.tensors import flat, rows


def noise_image(problem: Problem, draws: Draws, t: int) -> Tensor:
    """Return the `t`-th image of noise: uniform in the box, in cells that grow from one pixel to a quarter of a side.

    One kind of noise may look like one class to a model, so that images of that class would never find a start.
    Without a box, normal noise around the image, larger each time.
    """
    x, threat = problem.x, problem.threat
    cell = max(1, min(2 ** (t % 4), min(x.shape[-2:]) // 4))
    height, width = (-(-side // cell) for side in x.shape[-2:])
    low, high = threat.box
    if high - low == torch.inf:
        noise = draws.normal("start", x.shape[1], height, width).to(x.dtype) * 2.0 ** min(t, 20)
    else:
        noise = low + (high - low) * draws.uniform("start", x.shape[1], height, width).to(x.dtype)
    noise = noise.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., : x.shape[2], : x.shape[3]]
    return threat.clip(x + noise * threat.scale) if high - low == torch.inf else noise


def toward(problem: Problem, point: Tensor, size: Tensor) -> Tensor:
    """Return the change from the image to `point` cut down to `size` (`[N]`), as the norm cuts."""
    return problem.threat.at(size).project(point, problem.x)


def directions(problem: Problem, draws: Draws, smoothness: float) -> Tensor:
    """Return random directions of Euclidean length 1, in the threat's unit; smooth ones where `smoothness` is above 0.

    The amplitude of a cosine wave of `i` half turns along one side and `j` along the other falls as
    1 / (1 + smoothness^2 (i^2 + j^2)), with i and j as shares of the side: no direction is out of reach.
    """
    x, threat = problem.x, problem.threat
    noise = draws.normal("direction", *x.shape[1:]).to(x.dtype)
    if smoothness > 0:
        down, across = (torch.arange(side, device=x.device, dtype=x.dtype) / side for side in x.shape[-2:])
        noise = from_waves(noise / (1 + smoothness**2 * (down[:, None].square() + across.square())))
    noise = noise / rows(torch.linalg.vector_norm(flat(noise), dim=1).clamp_min(1e-30), noise)
    return noise * threat.scale
