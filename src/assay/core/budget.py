"""Budgets as people write them: `8/255`, `0.031`, `normalized 0.02`."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

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


class Given(NamedTuple):
    """Budgets as a threat has them: `eps` (a number or `[N]`), the `scale` it is in units of, and what was written.

    `changing` (bool `[C]`) says which channels have a budget, where some have none.
    """

    eps: float | Tensor
    scale: float | Tensor = 1.0
    budget: Budget | None = None
    changing: Tensor | None = None


def read_budgets(eps: Any, norm: str) -> Given:
    """Read one budget, a list with one per channel, or a tensor `[N]` with one per sample.

    Raises `BadInput` for what is none of them, and for budgets that the norm does not know.
    """
    if isinstance(eps, Tensor) and eps.ndim:
        return Given(_per_sample(eps, norm))
    if isinstance(eps, (list, tuple)):
        budgets = _per_channel(eps, norm)
        written = "[" + ", ".join(one.written for one in budgets) + "]"
        changing = None if all(one.value for one in budgets) else torch.tensor([one.value > 0 for one in budgets])
        # a channel that does not change has no unit: 1, so that nothing is divided by 0
        scale = torch.tensor([one.value or 1.0 for one in budgets]).view(-1, 1, 1)
        return Given(1.0, scale, Budget(written, 1.0), changing)
    budget = check_budget(parse_budget(float(eps) if isinstance(eps, Tensor) else eps), norm)
    return Given(budget.value, budget=budget)


def _per_sample(eps: Tensor, norm: str) -> Tensor:
    if eps.ndim != 1 or not bool((eps >= 0).all()):
        raise BadInput("A tensor of budgets is one number of 0 or more per sample, shape [N].")
    finite = eps[eps.isfinite()]
    if len(finite):
        # the largest is a slip first; of sides each has to be whole
        slip = finite[finite % 1 != 0] if norm == "patch" else finite
        check_budget(parse_budget(float(slip.max() if len(slip) else finite.max())), norm)
    return eps.float()


def _per_channel(given: Sequence[Budget | float | str], norm: str) -> list[Budget]:
    if norm == "l0":
        raise BadInput(
            "L0 counts values of any height: it takes one budget for all channels. To change some channels alone give "
            "it a mask [C, 1, 1], such as assay.L0(5, mask=torch.tensor([0, 0, 1]).view(3, 1, 1))."
        )
    if norm == "patch":
        raise BadInput(
            "A patch has one budget, the side of its square, for all channels. To change some channels alone give it a "
            "mask [C, 1, 1], such as assay.Patch(5, mask=torch.tensor([0, 0, 1]).view(3, 1, 1))."
        )
    budgets = [check_budget(parse_budget(one), norm) for one in given]
    if any(one.unit == NORMALIZED or math.isinf(one.value) for one in budgets) or not any(one.value for one in budgets):
        raise BadInput(
            f"{given!r}: one budget per channel takes finite pixel budgets, at least one of them above 0, such as "
            "['8/255', '4/255', 0]; 0 is a channel that does not change."
        )
    return budgets
