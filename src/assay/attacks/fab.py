"""Fast adaptive boundary attack: the nearest point beyond the boundary, found by walking along it."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from assay.attacks.options import Classes, Option, RandomStart, Steps, Targets, check_options
from assay.attacks.parts.linearisation import Plane, Walk, begun, nearest_plane, seen_at, toward
from assay.core.compose import EachTarget
from assay.core.draws import Draws
from assay.core.objective import Objective, differences
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import rows

AlphaMax = Annotated[float, Option("The most that the image draws a step back.", "share", most=1)]
Eta = Annotated[float, Option("How far steps go on beyond the boundary: 1 stops there.")]
Beta = Annotated[float, Option("Where a success is drawn back to, at first.", "share of the distance", most=1)]


@dataclasses.dataclass(frozen=True)
class FAB:
    """Fast adaptive boundary attack (Croce and Hein 2020b): smallest perturbations, found along the boundary.

    `z <- (1 - a) (z + eta (P(z) - z)) + a (x + eta (P(x) - x))`, where P is the projection, inside the box, onto the
    nearest boundary of the model taken as linear at z, and a = min(|P(z) - z| / (|P(z) - z| + |P(x) - x|),
    `alpha_max`). From a success it first goes back to `x + b (z - x)`; the plane seen at the success serves there too,
    which saves the second look of the authors' code, and b rises from `beta` to 1 over the steps, which ends nearer to
    the boundary. Under `Untargeted` the nearest boundary is chosen among those of the `classes` highest other classes:
    one reaches the distances of all of them (the authors' choice) for a fraction of the backward passes. Any other
    goal has one boundary.
    With `random_start` the second point is random, no further from the image than half of the budget, or, where that
    is endless, of the distance to the boundary that the first look promises. The last point is the nearest success.
    Access: gradient. Cost: `steps` times 1 forward and `classes` backwards (or 1), and 1 forward. Raises `BadInput` for
    shares outside [0, 1].
    """

    steps: Steps = 100
    alpha_max: AlphaMax = 0.1
    eta: Eta = 1.05
    beta: Beta = 0.9
    classes: Classes = 1
    random_start: RandomStart = False

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def objective(self) -> Objective:
        """The boundaries that may be crossed."""
        return differences(self.classes)

    def init(self, problem: Problem, draws: Draws) -> Walk:
        """Begin at the given start or at the image, without noise."""
        return begun(problem)

    def step(self, state: Walk, seen: Observation, problem: Problem, draws: Draws) -> Walk:
        """Walk on from the point seen; to the nearest success at the end, where there is one."""
        at, state = seen_at(state, seen, problem)
        plane = nearest_plane(seen, at, problem.threat)
        if self.random_start and state.t == 1:
            new = _noisy(plane, problem, draws)
        else:
            back = 1 - (1 - self.beta) * (1 - state.t / self.steps)
            here = torch.where(rows(seen.reached, at), toward(problem.x, at, back), at)
            new = self._walked(here, plane, problem)
        if state.t == self.steps:
            new = torch.where(rows(state.size.isfinite(), at), state.best, new)
        return state._replace(query=new)

    def _walked(self, here: Tensor, plane: Plane, problem: Problem) -> Tensor:
        threat, x = problem.threat, problem.x
        near, far = (threat.to_plane(point, plane.normal, plane.offset) for point in (here, x))
        there, back = threat.size(near, here), threat.size(far, x)
        bias = (there / (there + back).clamp_min(1e-12)).clamp_max(self.alpha_max)
        return threat.clip(toward(toward(here, near, self.eta), toward(x, far, self.eta), bias))


def fab_targeted(
    steps: Steps = 100, alpha_max: AlphaMax = 0.1, eta: Eta = 1.05, beta: Beta = 0.9, targets: Targets = 9
) -> EachTarget:
    """Return FAB once towards each of the `targets` likeliest wrong classes, as AutoAttack runs it.

    Cost: 1 forward to rank the classes; for each target `steps` times 1 forward and 1 backward, and 1 forward.
    """
    return EachTarget(FAB(steps, alpha_max, eta, beta), targets)


def _noisy(plane: Plane, problem: Problem, draws: Draws) -> Tensor:
    eps = torch.as_tensor(problem.threat.eps, dtype=problem.x.dtype, device=problem.x.device)
    return problem.threat.at(torch.where(eps.isinf(), plane.distance, eps) / 2).start(problem.x, draws)
