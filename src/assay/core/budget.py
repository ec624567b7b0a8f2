"""Budgets as people write them: `8/255`, `0.031`, `normalized 0.02`."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

from assay.core.errors import BadInput

PIXEL = "pixel"
NORMALIZED = "normalized"

_FORMS = "Write a budget as '8/255', '0.031' (pixels in [0, 1]) or 'normalized 0.02' (the model's own units)."
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PATTERN = re.compile(rf"^(?:(normalized|pixel)\s+)?({_NUMBER})(?:\s*/\s*({_NUMBER}))?$")


@dataclasses.dataclass(frozen=True)
class Budget:
    """A perturbation budget: what was `written`, its `value`, and the `unit` the value is in.

    `pixel` is the image range [0, 1]; `normalized` is the space after the model's own normalisation, where one unit
    of channel c is `std[c]` pixels.
    """

    written: str
    value: float
    unit: str = PIXEL

    def grey_levels(self, std: Sequence[float] | None = None) -> float:
        """Return the size in grey levels (1/255 of the range), averaged over channels for normalised budgets."""
        if self.unit == PIXEL:
            return 255.0 * self.value
        if std is None:
            raise BadInput(f"The budget {self.written!r} is in normalised units, and the model's std is unknown.")
        return 255.0 * self.value * sum(std) / len(std)


def parse_budget(budget: Budget | float | int | str) -> Budget:
    """Read a budget written as a number or as text.

    Raises `BadInput` for text that is no budget, for negative budgets and for NaN. Whether a budget makes sense for
    a norm is `check_budget`'s question.
    """
    if isinstance(budget, Budget):
        return budget
    if isinstance(budget, (int, float)):
        value, unit, written = float(budget), PIXEL, str(budget)
    else:
        written = " ".join(budget.split())
        match = _PATTERN.match(written)
        if match is None:
            raise BadInput(f"{budget!r} is not a budget. {_FORMS}")
        unit = match[1] or PIXEL
        below = float(match[3]) if match[3] else 1.0
        if below == 0:
            raise BadInput(f"{budget!r} divides by zero. {_FORMS}")
        value = float(match[2]) / below
    if math.isnan(value):
        raise BadInput(f"The budget is NaN. {_FORMS}")
    if value < 0:
        raise BadInput(f"The budget {written} is negative; a budget is a size, 0 or more.")
    return Budget(written, value, unit)


def check_budget(budget: Budget, norm: str) -> Budget:
    """Refuse what is almost certainly a slip: a pixel budget above the image range in the maximum norm.

    Raises `BadInput` naming the fraction of 255 that was probably meant, and for a patch whose side is no whole number
    of pixels.
    """
    if norm == "patch" and (budget.unit != PIXEL or (budget.value % 1 and math.isfinite(budget.value))):
        raise BadInput(
            f"{budget.written} is not the size of a patch: expected the side of a square, a whole number of pixels "
            "such as 5."
        )
    if norm in ("linf", "ycbcr") and budget.unit == PIXEL and 1 < budget.value < math.inf:
        raise BadInput(
            f"{budget.written} is larger than the image range [0, 1]. "
            f"Did you mean {budget.written}/255? Write grey levels as a fraction of 255."
        )
    return budget
