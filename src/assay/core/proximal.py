"""Proximal operators of the norms, and their slopes, on rows `[N, D]`.

A proximal operator is `argmin_z |z - d|^2 / 2 + weight * norm(z)`, `weight` `[N, 1]`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.core.norms import unit

# of a change in float32
_ROUNDING = 1e-6

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


def _l1_slope(d: Tensor) -> Tensor:
    # rounding is no change: the sign of it would be a step of its own
    return d.sign() * (d.abs() > _ROUNDING)


SLOPES: dict[str, Callable[[Tensor], Tensor]] = {"l1": _l1_slope, "l2": unit}
"""The gradient of the norm; of the subgradients of L1 the shortest."""


def proximal_of(norm: str) -> Proximal:
    """Return the proximal operator of a norm. Raises `BadInput` for one that has none (L0)."""
    if norm not in PROXIMAL:
        raise BadInput(f"There is no proximal operator for {norm}; there is for {', '.join(PROXIMAL)}.")
    return PROXIMAL[norm]


def slope_of(norm: str) -> Callable[[Tensor], Tensor]:
    """Return the gradient of a norm. Raises `BadInput` for one that is no sum over values (Linf, L0)."""
    if norm not in SLOPES:
        raise BadInput(f"There is no gradient of {norm} to descend; there is of {', '.join(SLOPES)}.")
    return SLOPES[norm]
