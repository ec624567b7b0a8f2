"""Oracles that climb something else than the model, and judge every point by the model itself.

An attack on another network alone ends where that network errs; what stands around it may need an image that it is
surer about, or less sure. Guided by the other network, the attack goes on until the model errs.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor

from assay.audit.bypass import accepted
from assay.core.draws import Draws
from assay.core.goal import Goal
from assay.core.objective import Objective
from assay.core.oracle import Access, Observation, Oracle


@dataclasses.dataclass(frozen=True)
class Guided:
    """The answers of `oracle` with objective and gradient of `guide`, which refuses nothing."""

    oracle: Oracle
    guide: Oracle

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask the model, and for gradients the guide; see `Oracle`. Costs the passes of both."""
        seen = self.oracle.look(points, goal, objective, min(access, Access.SCORES), draws)
        if access is not Access.GRADIENT:
            return seen
        other = self.guide.look(points, accepted(goal), objective, access, draws)
        return seen._replace(loss=other.loss, grad=other.grad, cost=seen.cost.plus(other.cost))
