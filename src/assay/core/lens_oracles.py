"""Oracles around an oracle that answer a gradient look from several views of each point, or smooth what comes back.

A view is a differentiable map of the points; the gradient seen is the mean over the views, pulled back to the points,
and the objective is the mean of the views'. Looks that ask for labels or scores pass straight through.

What is judged is always the point itself. A view that shows a row as it is (no transformation drawn, the first of
several copies) judges it for nothing. Rows without such a view cost one more forward where `judges` is true; else
nothing is known of them (gap -inf, not reached), which is enough for an attack whose last point alone counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Goal
from assay.core.objective import Objective
from assay.core.oracle import Access, Cost, Observation, Oracle
from assay.core.tensors import flat, rows, take


class Views(Protocol):
    """What is looked at in place of the points."""

    @property
    def samples(self) -> int:
        """How many views a look takes."""

    @property
    def judges(self) -> bool:
        """Whether rows that no view shows as they are cost one more forward, to be judged."""

    def view(self, points: Tensor, draws: Draws, i: int) -> Tensor:
        """Return view number `i` of the points, by operations that torch can differentiate."""


@dataclasses.dataclass(frozen=True)
class _Sums:
    # over views: of objective and gradient, and of the logits of rows seen as they are
    loss: Tensor
    grad: Tensor
    logits: Tensor
    shown: Tensor
    cost: Cost

    def __add__(self, other: _Sums) -> _Sums:
        cost = self.cost.plus(other.cost)
        logits, shown = self.logits + other.logits, self.shown + other.shown
        return _Sums(self.loss + other.loss, self.grad + other.grad, logits, shown, cost)


@dataclasses.dataclass(frozen=True)
class Viewed:
    """The oracle that `views` make of `oracle`."""

    oracle: Oracle
    views: Views

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask about every view; see `Oracle`. Labels and scores are those of the points themselves.

        Raises `BadInput` for a view that torch cannot differentiate.
        """
        if access is not Access.GRADIENT:
            return self.oracle.look(points, goal, objective, access, draws)
        n = self.views.samples
        sums = self._view(points, goal, objective, draws, 0)
        for i in range(1, n):
            sums += self._view(points, goal, objective, draws, i)
        known = sums.shown > 0
        logits = sums.logits / rows(sums.shown.clamp_min(1), sums.logits)
        logits = torch.where(rows(known, logits), logits, torch.nan)
        seen = Observation(logits, sums.loss / n, logits[:, 0], known, sums.grad / n, sums.cost)
        if self.views.judges and not bool(known.all()):
            seen = self._judged(seen, points, goal, objective, draws)
            known = torch.ones_like(known)
        gap = torch.where(known, goal.gap(seen.logits), -torch.inf)
        return seen._replace(gap=gap, reached=known & goal.reached(seen.logits), judged=known)

    def _view(self, points: Tensor, goal: Goal, objective: Objective, draws: Draws, i: int) -> _Sums:
        own = draws.fold(f"view {i}")
        with torch.enable_grad():
            free = points.detach().requires_grad_()
            view = self.views.view(free, own, i)
        if not view.requires_grad:
            raise BadInput(
                "The transformation cannot be differentiated: its result has no gradient. Use torch operations alone, "
                "or put it in front of the model as assay.models.Bpda(transformation, model)."
            )
        seen = self.oracle.look(view.detach(), goal, objective, Access.GRADIENT, own)
        assert seen.grad is not None, "asked for"
        shown = flat(view.detach() == points).all(1)
        logits = torch.where(rows(shown, seen.logits), seen.logits, 0)
        return _Sums(seen.loss, _pulled_back(seen.grad, view, free, seen.loss.ndim), logits, shown.long(), seen.cost)

    def _judged(self, seen: Observation, points: Tensor, goal: Goal, objective: Objective, draws: Draws) -> Observation:
        # the rows that no view showed as they are
        at = ~seen.reached
        own = self.oracle.look(points[at], take(goal, at), objective, Access.SCORES, draws.take(at).fold("judged"))
        logits = seen.logits.clone()
        logits[at] = own.logits
        where = at.nonzero().squeeze(1)
        cost = Cost(*(old.index_add(0, where, new) for old, new in zip(seen.cost, own.cost, strict=True)))
        return seen._replace(logits=logits, cost=cost)


def _pulled_back(grad: Tensor, view: Tensor, points: Tensor, of: int) -> Tensor:
    # the chain rule through the view; a vector objective has one gradient per entry
    if view is points:
        return grad
    each = [grad] if of == 1 else list(grad.unbind(1))
    pulled = [torch.autograd.grad(view, points, one, retain_graph=True)[0] for one in each]
    return pulled[0] if of == 1 else torch.stack(pulled, 1)


@dataclasses.dataclass(frozen=True)
class Smoothed:
    """The oracle whose gradients are smoothed in space; `weights` gives the kernel for a shorter side."""

    oracle: Oracle
    weights: Callable[[int], list[float]]

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask, and smooth what comes back; see `Oracle`."""
        seen = self.oracle.look(points, goal, objective, access, draws)
        if seen.grad is None:
            return seen
        weights = self.weights(min(points.shape[-2:]))
        return seen._replace(grad=_along(_along(seen.grad, -1, weights), -2, weights))


def _along(value: Tensor, axis: int, weights: list[float]) -> Tensor:
    # sums of shifted copies, not a convolution: a row's values must not depend on how many rows there are
    half, side = len(weights) // 2, value.shape[axis]
    total = torch.zeros_like(value)
    for i, weight in enumerate(weights):
        shift = i - half
        length = side - abs(shift)
        if length > 0:
            total.narrow(axis, max(0, -shift), length).add_(value.narrow(axis, max(0, shift), length), alpha=weight)
    return total
