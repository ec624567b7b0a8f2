"""What a search is given."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.core.goal import Goal
from assay.core.objective import Objective
from assay.core.oracle import Observation, Oracle
from assay.core.threat import Threat


class CachedLook(NamedTuple):
    """What the model already said at `points`; a first query that equals them is not asked, or billed, again."""

    points: Tensor
    objective: Objective
    seen: Observation


@dataclasses.dataclass(frozen=True)
class Problem:
    """Images `x` `[N, *S]`, the goal, the threat, and whom to ask; `start` (`[N, *S]`) is where to begin, if not at x.

    `known` is what the model has already said, about this goal.

    Raises `BadInput` for images that are not float32 or float64, for a threat whose unit is not resolved or whose
    budgets or mask do not fit the images, and for images off the threat's grid.
    """

    oracle: Oracle
    x: Tensor
    goal: Goal
    threat: Threat
    start: Tensor | None = None
    known: CachedLook | None = None

    SHARED: ClassVar[tuple[str, ...]] = ("oracle",)

    def __post_init__(self) -> None:
        if self.x.dtype not in (torch.float32, torch.float64):
            # in 16 bits x + eps rounds to a point outside the budget: nothing would ever break
            raise BadInput(f"The images are {self.x.dtype}, expected float32 or float64: convert them with x.float().")
        if not self.threat.resolved:
            raise BadInput("The threat is in normalised units: resolve it first with threat.in_units_of(model.std).")
        self._check_shapes()
        if self.threat.grid is not None and not torch.equal(self.threat.on_grid(self.x), self.x):
            # half a level off, and every point on the grid can lie outside the budget: nothing would ever break
            raise BadInput("The threat has a grid and x is off it: round the images first with threat.on_grid(x).")

    def _check_shapes(self) -> None:
        eps, scale = self.threat.eps, self.threat.scale
        if isinstance(eps, Tensor) and eps.ndim and eps.shape != self.x.shape[:1]:
            raise BadInput(f"{list(eps.shape)} budgets for {len(self.x)} images; expected one per image.")
        if isinstance(scale, Tensor) and scale.ndim == 3 and scale.shape[0] not in (1, self.x.shape[1]):
            raise BadInput(f"The budget is for {scale.shape[0]} channels, the images have {self.x.shape[1]}.")
        if self.threat.components is not None:
            self._check_colours()
        if self.threat.mask is not None:
            self.threat.mask.check(self.x)
            # users write masks where they are at hand; a search goes on where the images are
            object.__setattr__(self, "threat", self.threat.on(self.x.device))
            if self.start is not None:
                object.__setattr__(self, "start", self.threat.inside(self.start, self.x))

    def _check_colours(self) -> None:
        channels, mask = self.x.shape[1], self.threat.mask
        if channels != 3:
            raise BadInput(
                f"Y, Cb and Cr are made of red, green and blue, and the images have {channels} channels, expected 3. "
                "Use linf, with channels or a mask where not all may change."
            )
        if mask is not None and mask.free.shape[-3] == 3:
            free = mask.free.any(-3, keepdim=True)
            if not bool((mask.free == free).all()):
                raise BadInput(
                    "The mask differs between channels, and a change of Y, Cb or Cr changes several of them. Give a "
                    "mask [1, H, W], or use linf."
                )

    @property
    def seen_at_x(self) -> Observation | None:
        """What the model is known to say about the images themselves."""
        if self.known is None or not torch.equal(self.known.points, self.x):
            return None
        return self.known.seen


def budget_of(problem: Problem) -> float | Tensor:
    """Return the budget, a number or `[N]`. Raises `BadInput` for an endless one: steps are measured in it."""
    eps = problem.threat.eps
    if bool(eps.isinf().any()) if isinstance(eps, Tensor) else math.isinf(eps):
        raise BadInput("This attack moves in steps of the budget, and the budget is infinite. Give it a finite one.")
    return eps
