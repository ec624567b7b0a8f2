"""Attacks made to carry over to other models: momentum, with gradients that depend less on the model at hand.

They attack the model at hand as well; `compose.Transferred` makes them on a surrogate. Grey-scale, colour and images
of any size; every norm that has a steepest direction.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import MIFGSM, gradient_of, of_mean_one, start_of, stride
from assay.attacks.options import Climbed, Decay, Option, Steps, StepSize
from assay.core.compose import Through
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.lenses import InputDiversity, ScaleCopies, TranslationInvariance
from assay.core.objective import Objective, cross_entropy
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.threat import UNBOXED

_ODD = "an odd number such as 7: another has no middle"


def di_fgsm(
    steps: Steps = 10,
    step_size: StepSize = None,
    decay: Decay = 1.0,
    probability: Annotated[float, Option("How likely a look sees the image resized and padded.", most=1)] = 0.5,
    smallest_share: Annotated[
        float, Option("The smallest size that an image is shrunk to.", "share of the sides", most=1, above=True)
    ] = 0.9,
    objective: Climbed = cross_entropy,
) -> Through:
    """Return MI-FGSM at images that are, with a `probability`, randomly resized and padded.

    Xie et al. 2019 (M-DI2-FGSM). Only points seen as they are and the last one are judged. Cost: `steps` gradient looks
    and 1 forward.
    """
    return Through(
        InputDiversity(probability, smallest_share, judges=False), MIFGSM(steps, step_size, decay, False, objective)
    )


def ti_fgsm(
    steps: Steps = 10,
    step_size: StepSize = None,
    decay: Decay = 1.0,
    kernel: Annotated[
        int | None,
        Option("Side of the Gaussian; without it the image's size decides.", "pixels", odd=True, expected=_ODD),
    ] = None,
    objective: Climbed = cross_entropy,
) -> Through:
    """Return MI-FGSM with gradients smoothed in space by a Gaussian `kernel` (TI-FGSM, Dong et al. 2019).

    Cost: `steps` gradient looks and 1 forward.
    """
    return Through(TranslationInvariance(kernel), MIFGSM(steps, step_size, decay, False, objective))


def si_fgsm(
    steps: Steps = 10,
    step_size: StepSize = None,
    decay: Decay = 1.0,
    copies: Annotated[int, Option("Ever darker copies whose gradients are averaged.", "copies")] = 5,
    objective: Climbed = cross_entropy,
) -> Through:
    """Return NI-FGSM with gradients averaged over `copies` x, x / 2, x / 4, ... (SI-NI-FGSM, Lin et al. 2020).

    Cost: `steps` looks of `copies` forwards and backwards each, and 1 forward.
    """
    return Through(ScaleCopies(copies), MIFGSM(steps, step_size, decay, True, objective))


class Tuned(NamedTuple):
    """The point whose neighbours are looked at, the point to go to, and what has been learnt on the way.

    `variance` is the mean gradient of the last point's neighbours minus its own, `total` the sum over the neighbours
    looked at so far; `t` counts looks.
    """

    query: Tensor
    point: Tensor
    after: Tensor
    grad: Tensor
    momentum: Tensor
    variance: Tensor
    total: Tensor
    t: int = 0
    done: bool = False


@dataclasses.dataclass(frozen=True)
class VMIFGSM:
    """MI-FGSM whose gradient is corrected by how it differed in the neighbourhood of the point before.

    Wang and He 2021: g = grad L(x) + v; v is the mean gradient at `neighbours` random points within `radius` budgets of
    x, minus grad L(x). Every neighbour is a look of its own, and one that breaks the model inside the budget counts.
    Cost: `iterations` + (`iterations` - 1) `neighbours` gradient looks and 1 forward. Raises `BadInput` for less than
    one iteration or neighbour.
    """

    iterations: int = 10
    neighbours: int = 5
    radius: float = 1.5
    step_size: float | None = None
    decay: float = 1.0
    objective: Objective = cross_entropy
    keeps: Keeps = Keeps.LAST

    access: ClassVar[Access] = Access.GRADIENT

    @property
    def step_length(self) -> float:
        """The length of a step, in budgets."""
        return 1 / self.iterations if self.step_size is None else self.step_size

    def __post_init__(self) -> None:
        """Refuse nothing to do."""
        if self.iterations < 1 or self.neighbours < 1:
            told = f"{self.iterations} iterations and {self.neighbours} neighbours"
            raise BadInput(f"VMI-FGSM has {told}; expected 1 or more of both. Without neighbours it is mi-fgsm.")

    @property
    def steps(self) -> int:
        """The looks: at the points, and at the neighbours of all but the last of them."""
        return self.iterations + (self.iterations - 1) * self.neighbours

    def init(self, problem: Problem, draws: Draws) -> Tuned:
        """Begin at the given start or at the image, at rest."""
        start, nil = start_of(problem), torch.zeros_like(problem.x)
        return Tuned(start, start, start, nil, nil, nil, nil)

    def step(self, state: Tuned, seen: Observation, problem: Problem, draws: Draws) -> Tuned:
        """Take a step, or look at one neighbour more."""
        around = state.t % (self.neighbours + 1)
        if around == 0:
            state = self._moved(state, gradient_of(seen), problem)
        else:
            state = state._replace(total=state.total + gradient_of(seen))
        state = state._replace(t=state.t + 1)
        if around < self.neighbours and state.t < self.steps:
            return state._replace(query=self._neighbour(state.point, problem, draws))
        # what is known of the neighbourhood corrects the next gradient
        variance = state.total / self.neighbours - state.grad
        nil = torch.zeros_like(state.total)
        return state._replace(query=state.after, point=state.after, variance=variance, total=nil)

    def _moved(self, state: Tuned, grad: Tensor, problem: Problem) -> Tuned:
        momentum = self.decay * state.momentum + of_mean_one(grad + state.variance, problem)
        return state._replace(
            grad=grad, momentum=momentum, after=stride(problem, state.point, momentum, self.step_length)
        )

    def _neighbour(self, point: Tensor, problem: Problem, draws: Draws) -> Tensor:
        # a neighbour may leave budget and box: it is there for its gradient
        around = dataclasses.replace(problem.threat.at(self.radius * budget_of(problem)), box=UNBOXED)
        return around.start(point, draws)


def vmi_fgsm(
    steps: Steps = 10,
    neighbours: Annotated[int, Option("Random points around, whose gradients correct the step.", "points")] = 5,
    radius: Annotated[float, Option("How far away those points lie.", "budgets")] = 1.5,
    step_size: StepSize = None,
    decay: Decay = 1.0,
    objective: Climbed = cross_entropy,
) -> VMIFGSM:
    """Return MI-FGSM whose gradient is corrected by how it differed around the point before (VMI-FGSM).

    Wang and He 2021: the correction is the mean gradient at `neighbours` random points within `radius` budgets, minus
    the gradient there. Cost: `steps` + (`steps` - 1) `neighbours` gradient looks and 1 forward.
    """
    return VMIFGSM(steps, neighbours, radius, step_size, decay, objective)
