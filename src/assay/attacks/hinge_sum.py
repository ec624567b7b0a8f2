"""Hinge sum: descent on a hinged margin and a hinged detector score, searching for the weight between the two."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Inner, Kappa, Option, Rounds
from assay.attacks.parts.constant_search import Constant, cosine
from assay.core.draws import Draws
from assay.core.goal import Goal, among_classes, knows_refusal
from assay.core.objective import Objective
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.signals import excess_of
from assay.core.tensors import counts, flat, rows


def margin_and_excess(logits: Tensor, goal: Goal) -> Tensor:
    """Return the margin among the classes, and minus the detector's excess, `[N, 2]`; `[N, 1]` without a refusal."""
    if not knows_refusal(goal):
        return goal.lead(logits)[:, None]
    return torch.stack([among_classes(goal).lead(logits[:, :-1]), -excess_of(logits)], 1)


class Weighing(NamedTuple):
    """A row's point and momentum, the detector's weight, and the step of its round."""

    query: Tensor
    momentum: Tensor
    weight: Constant
    t: Tensor
    done: bool = False


@dataclasses.dataclass(frozen=True)
class HingeSum:
    """Hinge sum: minimise max(0, kappa - margin) + c max(0, excess) within the budget, and search for c.

    The margin is that of the classes, the excess how far a detector's score lies above its threshold. Projected steps
    along a decaying mean of gradients descend for `inner` looks; then each sample takes its next c: larger where its
    point is wrong and refused, smaller where it is not wrong, and soon in between. c is first what makes both gradients
    equally long. After the search of EvadeML-Zoo (Xu et al. 2018), which descends with Adam from c = 1. Where the goal
    says nothing of a refusal the margin alone is climbed. Cost: at most `inner * rounds` gradient looks, of two
    backwards against a detector, and 1 forward.
    """

    inner: Inner = 40
    rounds: Rounds = 5
    kappa: Kappa = 0.0
    decay: Annotated[float, Option("The share of the momentum that is kept from step to step.", most=1)] = 0.75
    keeps: Keeps = Keeps.FIRST

    access: ClassVar[Access] = Access.GRADIENT

    @property
    def objective(self) -> Objective:
        """Margin and excess, each for itself."""
        return margin_and_excess

    @property
    def steps(self) -> int:
        """All rounds together."""
        return self.inner * self.rounds

    def init(self, problem: Problem, draws: Draws) -> Weighing:
        """Begin at the given start or at the image."""
        begin = start_of(problem)
        return Weighing(begin, torch.zeros_like(begin), Constant.of(None, begin), counts(begin))

    def step(self, state: Weighing, seen: Observation, problem: Problem, draws: Draws) -> Weighing:
        """Take one projected step; at the end of a round, choose the next weight."""
        grad, scale = gradient_of(seen), problem.threat.scale
        unmet = (seen.loss[:, 0] <= self.kappa).to(grad.dtype)
        uphill = rows(unmet, grad[:, 0]) * grad[:, 0]
        weight, momentum = state.weight, state.momentum
        # the classifier's gradient has length 1 here, whatever the scale of the logits
        size = flat(grad[:, 0] * scale).norm(dim=1).clamp_min(_TINY)
        if grad.shape[1] > 1:
            refused = (seen.loss[:, 1] < 0).to(grad.dtype)
            weight = weight.known(size / flat(grad[:, 1] * scale).norm(dim=1).clamp_min(_TINY))
            uphill = uphill + rows(refused * weight.value, uphill) * grad[:, 1]
        momentum = self.decay * momentum + uphill / rows(size, uphill)
        # the steps of a round, together, are worth 2.5 budgets
        length = cosine(5 / self.inner, state.t, self.inner) * budget_of(problem)
        moved = problem.threat.stride(momentum, state.query, length)
        t = state.t + 1
        ended = t >= self.inner
        if grad.shape[1] > 1:
            weight = weight.after(ended, seen.loss[:, 0] <= 0, _FACTOR)
        query = problem.threat.project(state.query + moved, problem.x)
        return Weighing(query, momentum, weight, t.masked_fill(ended, 0))


_TINY, _FACTOR = 1e-20, 4.0
