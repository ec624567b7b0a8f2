"""DDN: direction and norm of the change, decoupled."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Climbed, Option, Steps
from assay.core.draws import Draws
from assay.core.objective import sharp_cross_entropy
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import divisor, rows

_HASTE = 5


class Shell(NamedTuple):
    """A point, the radius of the shell around the image that it was moved to, and the verdicts before.

    `reached` is the latest one, `streak` how many in a row were like it.
    """

    query: Tensor
    radius: Tensor
    reached: Tensor
    streak: Tensor
    t: int
    done: bool = False


@dataclasses.dataclass(frozen=True)
class DDN:
    """Decoupled direction and norm (Rony et al. 2019): a gradient step, then back onto a shell around the image.

    The shell's radius, `radius` at first, shrinks by gamma after a point that reached the goal and grows by it
    otherwise. The step along the normalised gradient falls from 1 to 0.01 on a cosine, and gamma from `gamma` to 0.001
    (the paper's is fixed). Before the first change of verdict gamma is five times as large, and from the third equal
    verdict in a row on twice, three, up to five times: a radius far from the boundary, on either side, costs few looks.
    L2; keeps the smallest success, and does not round to 8 bits on its way.

    On a saturated network the gradient of the paper's cross-entropy is zero and the attack stands still: the default
    objective cannot saturate. Where the gradient is exactly zero all the same, a random direction stands in.
    Cost: `steps` gradient looks and 1 forward.
    """

    steps: Steps = 100
    gamma: Annotated[float, Option("How much the radius changes in a step, at first.", "share of the radius")] = 0.05
    radius: Annotated[float, Option("The first radius, in the norm of the threat.", "L2 distance")] = 1.0
    objective: Climbed = sharp_cross_entropy

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    def init(self, problem: Problem, draws: Draws) -> Shell:
        """Begin at the given start or at the image."""
        begin = start_of(problem)
        none = begin.new_zeros(len(begin))
        # in haste from the start, as after a long streak
        return Shell(begin, none + self.radius, none > 0, none + _HASTE, 0)

    def step(self, state: Shell, seen: Observation, problem: Problem, draws: Draws) -> Shell:
        """Step along the gradient and move onto the next shell."""
        x, threat, share = problem.x, problem.threat, state.t / self.steps
        moved = state.query + annealed(1.0, 0.01, share) * threat.steepest(anywhere(gradient_of(seen), draws))
        # the first look is at the image, not at a shell: its verdict is none to go by
        alike = (seen.reached == state.reached) | (state.t <= 1)
        streak = torch.where(alike, state.streak + 1, 1)
        haste = (streak - 1).clamp(1, _HASTE)
        by = (annealed(self.gamma, min(self.gamma, 0.001), share) * haste).clamp_max(0.5)
        radius = state.radius * torch.where(seen.reached, 1 - by, 1 + by)
        radius = radius if state.t else state.radius
        on_shell = x + (moved - x) * rows(radius / divisor(threat.size(moved, x)), x)
        return Shell(threat.clip(on_shell), radius, seen.reached, streak, state.t + 1)


def anywhere(grad: Tensor, draws: Draws) -> Tensor:
    """Return the gradients, with a random direction where there is none."""
    flat_land = (grad == 0).flatten(1).all(1)
    if not bool(flat_land.any()):
        return grad
    noise = draws.normal("flat", *grad.shape[1:]).to(grad.dtype)
    return torch.where(rows(flat_land, grad), noise, grad)


def annealed(first: float, last: float, share: float) -> float:
    """Return a value that falls from `first` to `last` on half a cosine as `share` goes from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
