"""Budgets as they are given to a threat: one, a list with one per channel, or a tensor with one per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.core.budget import NORMALIZED, Budget, check_budget, parse_budget
from assay.core.errors import BadInput


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
