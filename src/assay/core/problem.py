"""What a search is given."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import Tensor

from assay.core.errors import BadInput
from assay.core.goal import Goal
from assay.core.oracle import Oracle
from assay.core.threat import Threat


@dataclasses.dataclass(frozen=True)
class Problem:
    """Images `x` `[N, *S]`, the goal, the threat, and whom to ask; `start` (`[N, *S]`) is where to begin, if not at x.

    Raises `BadInput` for a threat whose unit is not resolved.
    """

    oracle: Oracle
    x: Tensor
    goal: Goal
    threat: Threat
    start: Tensor | None = None

    SHARED: ClassVar[tuple[str, ...]] = ("oracle",)

    def __post_init__(self) -> None:
        if not self.threat.resolved:
            raise BadInput("The threat is in normalised units: resolve it first with threat.in_units_of(model.std).")
