"""Rotations and translations: changes that no norm calls small."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.attacks.options import Option
from assay.core.draws import Draws
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import rows


class Turned(NamedTuple):
    """The image after transformation number `t`."""

    query: Tensor
    t: int
    done: bool = False


@dataclasses.dataclass(frozen=True)
class Spatial:
    """Rotate by up to `rotation` degrees and move by up to `translation` of the side (Engstrom et al. 2019).

    `tries` transformations are drawn evenly per sample ("worst of k"), or, with `grid`, all of 31 angles and 5 x 5
    places are tried, as the paper's exhaustive attack does. Bilinear, black beyond the edge. The change is measured in
    the threat's norm, and only counts inside the budget: in Linf give 1, which allows all. Cost: one forward each.
    """

    rotation: Annotated[float, Option("The largest rotation to either side.", "degrees")] = 30.0
    translation: Annotated[float, Option("The largest shift to either side.", "share of the side")] = 0.1
    tries: Annotated[int, Option("Random transformations per sample.", "forward passes")] = 10
    grid: Annotated[bool, Option("Whether every transformation of a fixed grid is tried instead.")] = False

    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.FIRST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what a look reports."""
        return margin

    @property
    def steps(self) -> int:
        """Transformations before the last one."""
        return (_ANGLES * _PLACES**2 if self.grid else self.tries) - 1

    def init(self, problem: Problem, draws: Draws) -> Turned:
        """Transform for the first time."""
        return Turned(self._transformed(problem, draws, 0), 0)

    def step(self, state: Turned, seen: Observation, problem: Problem, draws: Draws) -> Turned:
        """Transform the image anew."""
        return Turned(self._transformed(problem, draws, state.t + 1), state.t + 1)

    def _transformed(self, problem: Problem, draws: Draws, t: int) -> Tensor:
        x = problem.x
        if self.grid:
            angle, place = divmod(t, _PLACES**2)
            down, across = divmod(place, _PLACES)
            # from the middle outwards, where the image is least changed
            shares = torch.tensor([_outward(angle, _ANGLES), _outward(down, _PLACES), _outward(across, _PLACES)])
            turn = shares.to(x.device, x.dtype).expand(len(x), 3)
        else:
            turn = (2 * draws.uniform("turn", 3) - 1).to(x.dtype)
        angles = turn[:, 0] * math.radians(self.rotation)
        # affine_grid measures the image from -1 to 1
        moves = 2 * self.translation * turn[:, 1:]
        # in a mask the transformed image shows through, as through a window
        moved = problem.threat.inside(problem.threat.clip(_turned(x, angles, moves)), x)
        # one that the budget forbids is not tried: the image itself stands in its place
        allowed = torch.as_tensor(problem.threat.allows(problem.threat.size(moved, x)))
        return torch.where(rows(allowed, x), moved, x)


_ANGLES, _PLACES = 31, 5


def _outward(place: int, count: int) -> float:
    # 0, then alternately up and down, as shares from -1 to 1
    distance = (place + 1) // 2
    return distance / (count // 2) * (1 if place % 2 else -1)


def _turned(x: Tensor, angles: Tensor, moves: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    cos, sin = angles.cos(), angles.sin()
    # turning in pixels, written in coordinates that run from -1 to 1 along each side
    first = torch.stack([cos, -sin * height / width, moves[:, 1]], 1)
    second = torch.stack([sin * width / height, cos, moves[:, 0]], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
