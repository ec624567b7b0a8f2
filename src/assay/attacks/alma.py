"""ALMA: the augmented Lagrangian method for adversarial attacks."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.ddn import anywhere
from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Climbed, Option, Steps
from assay.core.draws import Draws
from assay.core.objective import dlr
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import divisor, flat, rows

# the size of the first step by norm. With the paper's 0.1 and 0.5 the distances on an adversarially trained network are
# larger by a twentieth and more
_FIRST = {"l2": 0.2, "l1": 1.0}
# the step's length falls to this share of the first one, from the first success on
_LAST = 0.01
# of the running means: of the multiplier, of squared gradients, and of the momentum
_EMA = 0.9
# the penalty parameter grows by `_GROWTH` where a success is still out and the constraint, every `_CHECK` steps, is
# not below `_ENOUGH` times what it was
_CHECK, _ENOUGH, _GROWTH = 10, 0.95, 1.2
_MULTIPLIER = (1e-6, 1e12)


class Lagrangian(NamedTuple):
    """A point with its momentum and squared gradients, and per sample `[N]` what weighs goal against distance.

    `whole` is the size of the objective at the first look, in units of which the constraint is measured. `rate` scales
    the step, `multiplier` and `penalty` are the Lagrangian's, `before` is the constraint at the last check, `found` the
    step of the first success (infinite before one).
    """

    query: Tensor
    momentum: Tensor
    square: Tensor
    whole: Tensor
    rate: Tensor
    multiplier: Tensor
    penalty: Tensor
    before: Tensor
    found: Tensor
    t: int = 0
    done: bool = False


@dataclasses.dataclass(frozen=True)
class ALMA:
    """Augmented Lagrangian method for adversarial attacks (Rony et al. 2021): least distance under a constraint.

    The constraint is `-objective <= 0` (DLR) in units of its size at the image: with two classes, where DLR is the
    margin, too, no scale of the logits changes anything. Distance and penalty (their P2) are descended together by
    RMSProp with momentum. The multiplier follows the penalty's slope as a running mean, and the penalty parameter grows
    while there is no success. The first step has the size `first` before the box cuts it (0.2 in L2, 1 in L1), and
    steps shrink a hundredfold from the first success to the end. The paper takes 1,000 steps. L2 and L1; keeps the
    smallest success.
    Cost: `steps` gradient looks and 1 forward. Raises `BadInput` for another norm.
    """

    steps: Steps = 300
    first: Annotated[float | None, Option("Size of the first step; without it 0.2 in L2, 1 in L1.", "distance")] = None
    objective: Climbed = dlr

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    def init(self, problem: Problem, draws: Draws) -> Lagrangian:
        """Begin at the given start or at the image, constraint and distance weighing alike."""
        begin = start_of(problem)
        # refuses a norm that cannot be descended before a pass is spent
        none = 0 * problem.threat.slope(begin, problem.x)
        one = begin.new_ones(len(begin))
        return Lagrangian(begin, none, torch.ones_like(begin), one, one, one, one, one, one * torch.inf)

    def step(self, state: Lagrangian, seen: Observation, problem: Problem, draws: Draws) -> Lagrangian:
        """Update the Lagrangian's weights, then descend it."""
        threat, x, t = problem.threat, problem.x, state.t
        climb, whole = gradient_of(seen), state.whole
        if t == 0:
            whole = divisor(seen.loss.nan_to_num(0.0).abs())
            # where the goal is reached a flat objective is no obstacle
            climb = torch.where(rows(seen.reached, x), climb, threat.only(anywhere(climb, draws)))
        # one look without a number must not end a row
        broken = (-seen.loss / whole).nan_to_num(0.0)
        found = torch.where(seen.reached & state.found.isinf(), float(t), state.found)
        multiplier, penalty, before = self._weights(state, broken, found.isfinite())
        slope = penalty_slope(broken, penalty, multiplier) / whole
        grad = -rows(slope, x) * climb * threat.scale
        if t:
            grad = grad + threat.slope(state.query, x)
        square = _EMA * state.square + (1 - _EMA) * grad.square()
        momentum = _EMA * state.momentum + grad / (square.sqrt() + 1e-8)
        rate = state.rate
        if t == 0:
            first = _FIRST[threat.norm.name] if self.first is None else self.first
            rate = first / divisor(threat.norm.size(flat(momentum)))
        query = threat.clip(state.query - threat.scale * rows(rate * self._decay(found, t), x) * momentum)
        return Lagrangian(query, momentum, square, whole, rate, multiplier, penalty, before, found, t + 1)

    def _decay(self, found: Tensor, t: int) -> Tensor:
        # by numbers of Python: a power of tensors rounds by where in the batch a row stands
        shares = [_LAST ** ((t - first) / (self.steps - first)) for first in range(t + 1)]
        known = found.isfinite()
        return torch.where(known, found.new_tensor(shares)[found.where(known, 0).long()], 1)

    def _weights(self, state: Lagrangian, broken: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if state.t == 0:
            return state.multiplier, state.penalty, broken
        penalty, before = state.penalty, state.before
        if (state.t + 1) % _CHECK == 0:
            stuck = ~found & (broken >= _ENOUGH * before)
            penalty, before = torch.where(stuck, _GROWTH * penalty, penalty), broken
        slope = penalty_slope(broken, penalty, state.multiplier)
        return (_EMA * state.multiplier + (1 - _EMA) * slope).clamp(*_MULTIPLIER), penalty, before


def penalty_slope(broken: Tensor, penalty: Tensor, multiplier: Tensor) -> Tensor:
    """Return the derivative of the penalty P2 (Birgin et al. 2005) by the constraint's value `broken`, all `[N]`.

    P2 is cubic where the constraint is violated, `m y + m p y^2 + p^2 y^3 / 6`, and `m y / (1 - p y)` where it holds.
    """
    over, under = broken.clamp_min(0), broken.clamp_max(0)
    violated = multiplier + 2 * multiplier * penalty * over + 0.5 * (penalty * over).square()
    return torch.where(broken >= 0, violated, multiplier / (1 - penalty * under).square())
