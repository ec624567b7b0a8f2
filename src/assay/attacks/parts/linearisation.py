"""The model taken as linear at the point seen: the nearest boundary, and what the smallest-perturbation walks share."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of
from assay.core.oracle import Observation
from assay.core.problem import Problem
from assay.core.tensors import flat, rows
from assay.core.threat import Threat


class Walk(NamedTuple):
    """The next point, the nearest success so far with its size (infinite before the first), and the steps taken.

    Rows (bool `[N]`) that are `ending` are done after the next look.
    """

    query: Tensor
    best: Tensor
    size: Tensor
    t: int = 0
    ending: Tensor | bool = False
    done: Tensor | bool = False


class Plane(NamedTuple):
    """The plane `normal . z = offset` (`[N, *S]`, `[N]`), `distance` (`[N]`, in the threat's norm) from the point."""

    normal: Tensor
    offset: Tensor
    distance: Tensor


def begun(problem: Problem) -> Walk:
    """Return the walk that begins at the given start or at the image."""
    x = problem.x
    return Walk(x if problem.start is None else problem.start, x, x.new_full((len(x),), torch.inf))


def seen_at(state: Walk, seen: Observation, problem: Problem) -> tuple[Tensor, Walk]:
    """Return the point that was seen, and the walk that remembers it if it is the nearest success."""
    at = problem.threat.snap(state.query, problem.x)
    size = problem.threat.size(at, problem.x)
    nearer = seen.reached & (size < state.size)
    best = torch.where(rows(nearer, at), at, state.best)
    return at, state._replace(best=best, size=torch.where(nearer, size, state.size), t=state.t + 1)


def nearest_plane(seen: Observation, at: Tensor, threat: Threat) -> Plane:
    """Return the boundary nearest to `at`, the point seen, among those the objective names (`[N]` or `[N, R]`)."""
    value, grad = seen.loss, gradient_of(seen)
    if value.ndim == 1:
        value, grad = value[:, None], grad[:, None]
    # the mask first: it may hold a row per image, of which there are R gradients
    everywhere = dataclasses.replace(threat, mask=None)
    slope = everywhere.dual(threat.only(grad).flatten(0, 1)).view_as(value)
    # a boundary that no change brings nearer is infinitely far
    distance, which = torch.where(slope > 0, value.abs() / slope, torch.inf).min(1)
    row = torch.arange(len(at), device=at.device)
    normal, value = grad[row, which], value[row, which]
    return Plane(normal, flat(normal * at).sum(1) - value, distance)


def toward(start: Tensor, end: Tensor, share: float | Tensor) -> Tensor:
    """Return the point that lies `share` (a number, or `[N]`) of the way from `start` to `end`."""
    return start + rows(share, start) * (end - start)
