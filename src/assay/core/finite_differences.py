"""Gradients from scores: the model seen through finite differences."""

from __future__ import annotations

import dataclasses
import enum
from typing import ClassVar

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Goal
from assay.core.masks import Mask
from assay.core.objective import Objective
from assay.core.oracle import Access, Cost, Observation, Oracle
from assay.core.tensors import rows, take

# rows of one question: enough to fill a pass, few enough for memory
_ROWS = 128


class Directions(enum.Enum):
    """How probes are drawn."""

    NORMAL = "normal"
    """Standard normal numbers (natural evolution strategies)."""
    SIGNS = "signs"
    """+1 or -1 for every value (simultaneous perturbation)."""


@dataclasses.dataclass(frozen=True)
class FiniteDifferences:
    """A lens that answers gradient looks with an estimate from scores alone; `lens(oracle)` is the oracle seen so.

    g = mean over `pairs` of u (f(x + sigma u) - f(x - sigma u)) / (2 sigma), with `directions` u (NES, Ilyas et al.
    2018; SPSA, Spall 1992). Probes leave the box by a little, as those of the papers. A vector objective gets
    its Jacobian from the same probes. Cost of a gradient look: 2 `pairs` + 1 forwards, for any objective; other looks
    pass through. Raises `BadInput` where `pairs` is below 1 or `sigma` not above 0.
    """

    pairs: int = 25
    sigma: float = 1e-3
    directions: Directions = Directions.NORMAL

    access: ClassVar[Access] = Access.SCORES

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise BadInput(f"pairs is {self.pairs}, expected 1 pair of probes or more.")
        if not self.sigma > 0:
            raise BadInput(f"sigma is {self.sigma}, expected a distance above 0, such as 0.001.")

    @property
    def passes(self) -> tuple[int, int]:
        """Forwards and backwards of one gradient look."""
        return 2 * self.pairs + 1, 0

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle whose gradients are estimates."""
        return _Estimating(oracle, self)

    def probe(self, points: Tensor, draws: Draws) -> Tensor:
        """Return one direction for each point."""
        shape = points.shape[1:]
        if self.directions is Directions.NORMAL:
            return draws.normal("probe", *shape).to(points.dtype)
        return (draws.uniform("probe", *shape) < 0.5).to(points.dtype) * 2 - 1


@dataclasses.dataclass(frozen=True)
class _Estimating:
    oracle: Oracle
    lens: FiniteDifferences
    mask: Mask | None = None

    def within(self, mask: Mask) -> Oracle:
        """Return the oracle that probes in a mask alone: what may not change would be noise in the estimate."""
        return dataclasses.replace(self, mask=mask)

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        if access is not Access.GRADIENT:
            return self.oracle.look(points, goal, objective, access, draws)
        seen = self.oracle.look(points, goal, objective, Access.SCORES, draws)
        cost = seen.cost
        grad = points.new_zeros(len(points), *seen.loss.shape[1:], *points.shape[1:])
        if not len(points):
            return seen._replace(grad=grad)
        at_once = max(1, _ROWS // (2 * len(points)))
        for first in range(0, self.lens.pairs, at_once):
            numbers = range(first, min(first + at_once, self.lens.pairs))
            probes = [self.lens.probe(points, draws.fold(f"pair {i}")) for i in numbers]
            probes = probes if self.mask is None else [self.mask.only(u) for u in probes]
            # every probe forth and back; rows stand together with their goals and draws
            asked = [points + side * self.lens.sigma * u for u in probes for side in (1, -1)]
            many = torch.arange(len(points), device=points.device).repeat(len(asked))
            # the same draws for all: what the model itself draws must not pass for a slope, nor depend on `at_once`
            told = self.oracle.look(torch.cat(asked), take(goal, many), objective, Access.SCORES, draws.take(many))
            for i, u in enumerate(probes):
                forth, back = (told.loss[k * len(points) : (k + 1) * len(points)] for k in (2 * i, 2 * i + 1))
                slope = (forth - back).nan_to_num(0.0, 0.0, 0.0) / (2 * self.lens.sigma * self.lens.pairs)
                grad += rows(slope, u) * u if slope.ndim == 1 else _outer(slope, u)
            cost = Cost(*(old.index_add(0, many, new) for old, new in zip(cost, told.cost, strict=True)))
        return seen._replace(grad=grad, cost=cost)


def _outer(slope: Tensor, u: Tensor) -> Tensor:
    # [N, R] and [N, *S] give [N, R, *S]
    return slope.view(*slope.shape, *[1] * (u.ndim - 1)) * u[:, None]
