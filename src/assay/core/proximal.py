"""Proximal operators of the norms: `argmin_z |z - d|^2 / 2 + weight * norm(z)` on rows `[N, D]`, `weight` `[N, 1]`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from assay.core.norms import unit

Proximal = Callable[[Tensor, Tensor], Tensor]


def _l1(d: Tensor, weight: Tensor) -> Tensor:
    # every value moves towards zero by the weight
    return d.sign() * (d.abs() - weight).clamp_min(0)


def _l2(d: Tensor, weight: Tensor) -> Tensor:
    # the length shrinks by the weight
    length: Tensor = torch.linalg.vector_norm(d, dim=1, keepdim=True)
    return unit(d) * (length - weight).clamp_min(0)


def _linf(d: Tensor, weight: Tensor) -> Tensor:
    # what is cut off the largest values sums to the weight (Moreau: d minus its projection on the L1 ball)
    a = d.abs()
    falling = a.sort(1, descending=True).values
    count = torch.arange(1, a.shape[1] + 1, device=a.device, dtype=a.dtype)
    levels = (falling.cumsum(1) - weight) / count
    # the level of the longest run of values that all stand above it
    last = (falling > levels).sum(1, keepdim=True).clamp_min(1) - 1
    return d.sign() * torch.minimum(a, levels.gather(1, last).clamp_min(0))


PROXIMAL: dict[str, Proximal] = {"l1": _l1, "l2": _l2, "linf": _linf}
