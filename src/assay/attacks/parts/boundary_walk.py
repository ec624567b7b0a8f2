"""What attacks share that see labels alone: where they start, and the way from there towards the image."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks.parts.dct import from_waves
from assay.core.draws import Draws
from assay.core.problem import Problem
from assay.core.tensors import rows


class Between(NamedTuple):
    """The boundary between the image and `base`, which is adversarial: beyond size `low` (`[N]`), not beyond `high`.

    `point` is the adversarial image of size `high`.
    """

    point: Tensor
    base: Tensor
    low: Tensor
    high: Tensor


def begun(x: Tensor) -> Between:
    """Return what is known before any look."""
    zero = x.new_zeros(len(x))
    return Between(x, x, zero, zero)


def found_start(way: Between, fresh: Tensor, query: Tensor, problem: Problem) -> Between:
    """Return the way with the rows `fresh` (bool `[N]`) beginning anew from their `query`."""
    if not bool(fresh.any()):
        return way
    here, size = rows(fresh, query), problem.threat.size(query, problem.x)
    point, base = (torch.where(here, query, old) for old in (way.point, way.base))
    return Between(point, base, torch.where(fresh, 0, way.low), torch.where(fresh, size, way.high))


def approached(way: Between, asked: Tensor, hit: Tensor, query: Tensor, problem: Problem) -> Between:
    """Return the way after the verdict `hit` on the `cut` of the rows `asked`."""
    if not bool(asked.any()):
        return way
    size, inside = problem.threat.size(query, problem.x), asked & hit
    low, high = torch.where(asked & ~hit, size, way.low), torch.where(inside, size, way.high)
    return way._replace(point=torch.where(rows(inside, query), query, way.point), low=low, high=high)


def closed(way: Between, tolerance: float) -> Tensor:
    """Return bool `[N]`: whether the boundary is known to a share `tolerance` of its distance."""
    # a bracket is a whole fraction of its end, 1 / 100 among them: rounding must not decide whether that is 0.01
    return way.high - way.low <= 1.001 * tolerance * way.high


def cut(way: Between, problem: Problem) -> Tensor:
    """Return the change to `base` cut down to the middle of the sizes in question, as the norm cuts."""
    return problem.threat.at((way.low + way.high) / 2).project(way.base, problem.x)


def started(problem: Problem, draws: Draws, t: int) -> Tensor:
    """Return the `t`-th image to start from: the problem's start, then noise.

    In cells that grow from one pixel to a quarter of a side, uniform in the box, then at its ends, then again: one kind
    of noise may look like one class to a model, and the images of that class would never find a start. Without a box,
    normal noise around the image, larger each time.
    """
    x, threat = problem.x, problem.threat
    if t == 0 and problem.start is not None:
        return problem.start
    cell = max(1, min(2 ** (t % 4), min(x.shape[-2:]) // 4))
    shape = x.shape[1], *(-(-side // cell) for side in x.shape[-2:])
    low, high = threat.box
    boxed = not math.isinf(high - low)
    noise = (draws.uniform("start", *shape) if boxed else draws.normal("start", *shape) * 2.0 ** min(t, 20)).to(x.dtype)
    noise = noise.round() if boxed and t // 4 % 2 else noise
    noise = noise.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., : x.shape[2], : x.shape[3]]
    return threat.inside(low + (high - low) * noise if boxed else x + noise * threat.scale, x)


def directions(problem: Problem, draws: Draws, smoothness: Tensor) -> Tensor:
    """Return random directions of size 1 in the threat's norm; smooth ones where `smoothness` (`[N]`) is above 0.

    The amplitude of a cosine wave of `i` half turns along one side and `j` along the other falls as
    1 / (1 + smoothness^2 (i^2 + j^2)), with i and j as shares of the side: no direction is out of reach.
    """
    x, threat = problem.x, problem.threat
    noise = draws.normal("direction", *x.shape[1:]).to(x.dtype)
    if bool((smoothness > 0).any()):
        down, across = (torch.arange(side, device=x.device, dtype=x.dtype) / side for side in x.shape[-2:])
        noise = from_waves(noise / (1 + rows(smoothness**2, x) * (down[:, None].square() + across.square())))
    change = threat.only(noise * threat.scale)
    turned: Tensor = change / rows(threat.length(change).clamp_min(1e-30), change)
    return turned
