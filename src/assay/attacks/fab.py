"""FAB: walk along the decision boundary towards the image."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from assay.attacks.gradient import Point, gradient_of
from assay.core.compose import EachTarget
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.objective import Objective, differences
from assay.core.oracle import Access, Seen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import flat, rows

_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class FAB:
    """Fast Adaptive Boundary attack (Croce and Hein 2020b): project on the linearised boundary, drawn to the image.

    With p and p0 the projections of the point and of the image on the boundary's tangent (the nearest of the
    linearised classes that `objective` compares), the point moves to
    (1 - a) (z + eta (p - z)) + a (x + eta (p0 - x)), a = min(|p - z| / (|p - z| + |p0 - x|), alpha_max). A success
    is pulled back to x + beta (z - x) before it goes on, without a look of its own: the boundary is linear there.
    Linf, L2 and L1; keeps the smallest success. Cost: `steps` gradient looks, of `classes` backwards each where the
    goal names no target, and 1 forward. With more classes than that, the likeliest others are compared.
    """

    steps: int = 100
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    classes: int = 9
    random_start: bool = False

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    def __post_init__(self) -> None:
        for name in ("alpha_max", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} is {getattr(self, name)}, expected a share from 0 to 1.")

    @property
    def objective(self) -> Objective:
        """The lead of the goal's side over the other, or over each of the `classes` likeliest others."""
        return differences(self.classes)

    def init(self, problem: Problem, draws: Draws) -> Point:
        """Begin at the given start, at the image, or at a random point of half the budget."""
        begin = problem.x if problem.start is None else problem.start
        if self.random_start:
            eps = torch.as_tensor(problem.threat.eps, dtype=begin.dtype, device=begin.device)
            half = problem.threat.at(torch.where(eps.isinf(), 1.0, eps / 2).expand(len(begin)))
            begin = half.start(problem.x, draws)
        return Point(begin)

    def step(self, state: Point, seen: Seen, problem: Problem, draws: Draws) -> Point:
        """Take one step along the boundary."""
        x, threat = problem.x, problem.threat
        lead, grad = nearest_class(seen, problem)
        # the plane lead + grad . (z - query) = 0, as grad . z = offset
        offset = flat(grad * state.query).sum(1) - lead
        here = torch.where(rows(seen.reached, x), x + self.beta * (state.query - x), state.query)
        near, far = threat.to_plane(here, grad, offset), threat.to_plane(x, grad, offset)
        there, back = threat.size(near, here), threat.size(far, x)
        bias = rows((there / (there + back).clamp_min(_TINY)).clamp_max(self.alpha_max), x)
        moved = (1 - bias) * (here + self.eta * (near - here)) + bias * (x + self.eta * (far - x))
        return Point(threat.clip(moved))


def fab_targeted(steps: int = 100, targets: int = 9) -> EachTarget:
    """Return FAB once towards each of the `targets` likeliest wrong classes, one backward per step."""
    return EachTarget(FAB(steps), targets)


def nearest_class(seen: Seen, problem: Problem) -> tuple[Tensor, Tensor]:
    """Return objective `[N]` and gradient `[N, *S]` of the class whose linearised boundary is nearest to the point."""
    lead, grad = seen.loss, gradient_of(seen)
    if lead.ndim == 1:
        return lead, grad
    n, classes = lead.shape
    slope = problem.threat.dual(grad.flatten(0, 1)).view(n, classes)
    # a class that cannot rise is infinitely far
    distance = torch.where(slope > 0, lead.abs() / slope.clamp_min(_TINY), torch.inf)
    best = distance.argmin(1)
    return lead.gather(1, best[:, None]).squeeze(1), grad[torch.arange(n, device=grad.device), best]
