"""The model taken as linear at the point seen: the nearest boundary, and how far it is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of
from assay.core.oracle import Seen
from assay.core.tensors import flat, rows
from assay.core.threat import Threat


class Plane(NamedTuple):
    """The plane `normal . z = offset` (`[N, *S]`, `[N]`), `distance` (`[N]`, in the threat's norm) from the point."""

    normal: Tensor
    offset: Tensor
    distance: Tensor


def nearest_plane(seen: Seen, at: Tensor, threat: Threat) -> Plane:
    """Return the boundary nearest to `at`, the point seen, among those the objective names (`[N]` or `[N, R]`)."""
    value, grad = seen.loss, gradient_of(seen)
    if value.ndim == 1:
        value, grad = value[:, None], grad[:, None]
    slope = threat.dual(grad.flatten(0, 1)).view_as(value)
    # no distance to a boundary that no change brings nearer
    far = torch.where(slope > 0, value.abs() / slope, torch.inf)
    distance, which = far.min(1)
    row = torch.arange(len(at), device=at.device)
    normal, value = grad[row, which], value[row, which]
    return Plane(normal, flat(normal * at).sum(1) - value, distance)


def toward(start: Tensor, end: Tensor, share: float | Tensor) -> Tensor:
    """Return the point that lies `share` (a number, or `[N]`) of the way from `start` to `end`."""
    return start + rows(share, start) * (end - start)
