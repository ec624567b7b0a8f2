"""DeepFool and SuperDeepFool: onto the nearest boundary of the model taken as linear, again and again."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from assay.attacks.options import Classes, Option, Steps
from assay.attacks.parts.linearisation import Plane, Walk, begun, nearest_plane, seen_at, toward
from assay.core.draws import Draws
from assay.core.objective import Objective, differences
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import flat, rows

# a success that is not this much smaller than the last one ends a sample's search
_GAIN = 1e-3

Overshoot = Annotated[float, Option("How far steps go on beyond the boundary.", "share of the step")]


@dataclasses.dataclass(frozen=True)
class DeepFool:
    """DeepFool (Moosavi-Dezfooli et al. 2016): steps onto the nearest linearised boundary until it is crossed.

    `z <- z + ((1 + overshoot) |f| / ||w||_* + overshoot / 2 ||z - x||) d`, clipped to the box: f and w are value and
    gradient of the difference of logits that is nearest to 0 in the dual norm, among the `classes` highest other
    classes, and d is the steepest direction of unit size (in L1 spread over the best 1 % of the values). One last look
    draws the first success back to where the plane seen there cuts the way to the image.
    Access: gradient. Cost: per step 1 forward and `classes` backwards (1 under a goal other than `Untargeted`), few
    steps.
    """

    steps: Steps = 50
    overshoot: Overshoot = 0.02
    classes: Classes = 9

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    @property
    def objective(self) -> Objective:
        """The boundaries that may be crossed."""
        return differences(self.classes)

    def init(self, problem: Problem, draws: Draws) -> Walk:
        """Begin at the given start or at the image."""
        return begun(problem)

    def step(self, state: Walk, seen: Observation, problem: Problem, draws: Draws) -> Walk:
        """Step onto the nearest plane; from a success, back to the plane on the way to the image."""
        at, state = seen_at(state, seen, problem)
        plane = nearest_plane(seen, at, problem.threat)
        onward = _onto(at, plane, problem, self.overshoot)
        new = torch.where(rows(seen.reached, at), _drawn_back(at, plane, problem, self.overshoot), onward)
        return _going(state, new, seen.reached, self.steps)


@dataclasses.dataclass(frozen=True)
class SuperDeepFool:
    """SuperDeepFool (Abdollahpoor et al. 2024): DeepFool to a success, then onto the plane seen there, from the image.

    Outside, a step of DeepFool. From a success z half of the way to `x + (1 + overshoot) (P(x) - x)`, where P is the
    projection, inside the box, onto the plane seen at z (the authors go the whole way). A success less than 0.1 %
    smaller than the last one ends the search: one last look draws it back as DeepFool does, instead of the authors'
    search along the way to the image. One of the `classes` highest other classes is the nearest, as in DeepFool.
    Access: gradient. Cost: per step 1 forward and `classes` backwards, some 15 steps.
    """

    steps: Steps = 50
    overshoot: Overshoot = 0.005
    classes: Classes = 1

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    @property
    def objective(self) -> Objective:
        """The boundaries that may be crossed."""
        return differences(self.classes)

    def init(self, problem: Problem, draws: Draws) -> Walk:
        """Begin at the given start or at the image."""
        return begun(problem)

    def step(self, state: Walk, seen: Observation, problem: Problem, draws: Draws) -> Walk:
        """Step onto the nearest plane; from a success, half of the way to the image's own projection on it."""
        threat, x, before = problem.threat, problem.x, state.size
        at, state = seen_at(state, seen, problem)
        plane = nearest_plane(seen, at, threat)
        far = threat.to_plane(x, plane.normal, plane.offset)
        nearer = toward(at, threat.clip(toward(x, far, 1 + self.overshoot)), 0.5)
        settled = seen.reached & (threat.size(at, x) > (1 - _GAIN) * before)
        inward = torch.where(rows(settled, at), _drawn_back(at, plane, problem, self.overshoot), nearer)
        new = torch.where(rows(seen.reached, at), inward, _onto(at, plane, problem, self.overshoot))
        return _going(state, new, settled, self.steps)


def _onto(at: Tensor, plane: Plane, problem: Problem, overshoot: float) -> Tensor:
    threat = problem.threat
    ahead = plane.offset - flat(plane.normal * at).sum(1)
    # what the box blocks of a step is missing at its end: with a share of the way so far it still crosses
    length = (1 + overshoot) * plane.distance + overshoot / 2 * threat.size(at, problem.x)
    if threat.grid is not None:
        # what is shorter than a level moves nothing
        length = length.clamp_min(1 / threat.grid)
    # where no change brings a boundary nearer there is nowhere to go
    length = torch.where(plane.distance.isfinite(), length, 0)
    return threat.clip(at + threat.stride(plane.normal * rows(ahead.sign(), at), at, length))


def _drawn_back(at: Tensor, plane: Plane, problem: Problem, overshoot: float) -> Tensor:
    # where the plane cuts the way from the image to a success, and a tenth of the overshoot beyond
    x = problem.x
    share = (plane.offset - flat(plane.normal * x).sum(1)) / flat(plane.normal * (at - x)).sum(1)
    return toward(x, at, (share * (1 + overshoot / 10)).nan_to_num(1.0).clamp(0, 1))


def _going(state: Walk, new: Tensor, ending: Tensor, steps: int) -> Walk:
    # the last point is the nearest success, where there is one
    if state.t == steps:
        new = torch.where(rows(state.size.isfinite(), new), state.best, new)
    return state._replace(query=new, ending=ending, done=state.ending)
