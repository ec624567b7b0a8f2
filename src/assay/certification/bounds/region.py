"""The images that a threat allows, as bounds see them: a box, and the ball of the threat's norm."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from assay.certification.bounds.interval import Interval
from assay.certification.bounds.rows import Rows
from assay.core.errors import BadInput
from assay.core.norms import L1, L2, LINF, Norm
from assay.core.tensors import rows as over_rows
from assay.core.threat import Threat

# float32, in which the judge measures sizes
_UNIT = 2.0**-24


@dataclasses.dataclass(frozen=True)
class Region:
    """Images between `low` and `high` (`[N, *S]`) and, unless the norm is Linf, within `radius` (`[N]`) of `x`.

    The distance is measured in units of `scale` (`[1, *S]`, 0 where nothing may change), in `norm`.
    """

    x: Tensor
    low: Tensor
    high: Tensor
    norm: Norm
    radius: Tensor
    scale: Tensor

    @staticmethod
    def of(threat: Threat, x: Tensor, *, tolerant: bool = True) -> Region:
        """Return the images that `threat` allows around `x`, in double precision.

        If `tolerant`, these are all that the judge accepts: sizes up to `eps` and its tolerance, measured in float32.
        Raises `BadInput` for a norm that bounds say nothing about.
        """
        refuse_norm(threat)
        eps = judged(threat, x) if tolerant else torch.as_tensor(threat.eps, dtype=torch.float64)
        eps = eps.to(x.device, torch.float64).expand(len(x))
        x = x.double()
        scale = torch.as_tensor(threat.scale, dtype=torch.float64, device=x.device).expand(1, *x.shape[1:])
        scale = threat.only(scale.expand_as(x)) if threat.mask is not None else scale
        reach = over_rows(eps, x) * scale
        # an endless budget reaches everywhere that may change, and nowhere else
        reach = torch.where(scale == 0, 0.0, reach)
        low, high = threat.box
        return Region(x, (x - reach).clamp_min(low), (x + reach).clamp_max(high), threat.norm, eps, scale)

    @property
    def box(self) -> Interval:
        """The smallest box around them."""
        return Interval(self.low, self.high)

    @property
    def round(self) -> bool:
        """Whether the ball is no box."""
        return self.norm is not LINF and bool(self.radius.isfinite().any())

    def lowest(self, rows: Rows) -> Tensor:
        """Return a lower bound `[R]` of each row over its image's region: the better of box and ball."""
        middle, reach = rows.seen((self.low + self.high) / 2), rows.seen((self.high - self.low) / 2)
        a = rows.values
        by_box = (a * middle - a.abs() * reach).flatten(1).sum(1)
        if not self.round:
            return by_box
        at_x = (a * rows.seen(self.x)).flatten(1).sum(1)
        # a window may reach outside the image, where the scale is 0
        weighed = (a * rows.seen(self.scale)).flatten(1)
        by_ball = at_x - self.radius[rows.image] * self.norm.dual(weighed)
        return torch.where(by_ball.isnan(), by_box, torch.maximum(by_box, by_ball))

    def take(self, images: Tensor) -> Region:
        """Return the region of some of the images (int64 or bool, as an index)."""
        scale = self.scale if len(self.scale) == 1 else self.scale[images]
        return Region(self.x[images], self.low[images], self.high[images], self.norm, self.radius[images], scale)


def refuse_norm(threat: Threat) -> None:
    """Raise `BadInput` for a threat whose norm is none of those that bounds are for."""
    if threat.components is not None or threat.norm not in (LINF, L2, L1):
        raise BadInput(
            f"There are no bounds in {threat.norm.name}; there are in linf, l2 and l1. Changes of Y alone are changes "
            "in linf of the same size: a certificate in linf holds for them."
        )


def judged(threat: Threat, x: Tensor) -> Tensor:
    """Return the largest size (a number or `[N]`, float64) of a change that the judge accepts as inside the budget.

    It adds up differences in float32, in any order: what it finds to be `s` may be a little more.
    """
    bound = torch.as_tensor(threat.bound, dtype=torch.float64)
    terms = 3 if threat.norm is LINF else x[0].numel() + 4
    return bound * (1 + 2 * terms * _UNIT)
