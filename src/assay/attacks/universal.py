"""Universal perturbations: one change for all images, found beforehand."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from assay.attacks.gradient import Point
from assay.core.draws import Draws
from assay.core.edges import cut
from assay.core.errors import BadInput
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps


@dataclasses.dataclass(frozen=True)
class Added:
    """Add one change `[C, H, W]` to every image (Moosavi-Dezfooli et al. 2017), projected into budget and box.

    The change is given; `assay universal train` finds one. Cost: 1 forward.
    """

    change: Tensor = dataclasses.field(compare=False)

    steps: ClassVar[int] = 0
    access: ClassVar[Access] = Access.LABELS
    keeps: ClassVar[Keeps] = Keeps.LAST

    @property
    def objective(self) -> Objective:
        """Nothing is climbed; the margin is what the final look reports."""
        return margin

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Add the change. Raises `BadInput` for images of another size."""
        x = problem.x
        if x.shape[1:] != self.change.shape:
            raise BadInput(f"The change is for images of {_by(self.change.shape)}, these are {_by(x.shape[1:])}.")
        return Point(problem.threat.project(x + self.change.to(x.device, x.dtype), x))

    def step(self, state: Point, seen: Observation, problem: Problem, draws: Draws) -> Point:
        """Never asked for: there are no steps."""
        return state


def added(variables: Tensor, images: Tensor, draws: Draws) -> Tensor:
    """Return the images `[V, B, C, H, W]` with each of the changes `[V, C, H, W]` added, cut to [0, 1].

    What an `OverData` oracle applies. Differentiable with respect to the changes.
    """
    return cut(images[None] + variables[:, None], 0.0, 1.0)


def _by(shape: torch.Size) -> str:
    return " x ".join(map(str, shape))
