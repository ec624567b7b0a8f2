"""What an attack climbs: `(logits, goal) -> [N]`, or `[N, R]` whose gradient is then a Jacobian of R rows.

Always ascended, and never a batch mean: a sample's number must not depend on its neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.core.errors import BadInput, did_you_mean
from assay.core.goal import Goal, OutOfTop, Targeted, Toward, Untargeted, pick, without
from assay.core.multi_label import MULTI_LABEL, MultiLabel, cooled, nearest, square_error

Objective = Callable[[Tensor, Goal], Tensor]


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy, oriented by the goal. Blind where the softmax saturates: see `scaled_cross_entropy`."""
    return goal.surprise(logits)


def margin(logits: Tensor, goal: Goal) -> Tensor:
    """The difference of logits (Carlini and Wagner 2017, without the hinge)."""
    return goal.lead(logits)


def dlr(logits: Tensor, goal: Goal) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020): invariant to shift and scale of the logits.

    With a target it is the targeted ratio: this one is constant where the target ranks third.
    The divisor is the distance from the highest logit to the one below those the goal is about: the third, and for
    `OutOfTop` the k + 2nd. A model with fewer classes has none, and the objective is the margin; so it is for goals
    of several labels, whose scores do not compete. A refusal is none of these logits.
    """
    if isinstance(goal, MULTI_LABEL):
        return goal.lead(logits)
    if isinstance(goal, Targeted | Toward):
        return dlr_targeted(logits, goal)
    below, classes = goal.k + 2 if isinstance(goal, OutOfTop) else 3, _classes(logits, goal)
    if classes.shape[1] < below:
        return goal.lead(logits)
    top = classes.topk(below, 1).values
    return goal.lead(logits) / (top[:, 0] - top[:, -1] + 1e-12)


def dlr_targeted(logits: Tensor, goal: Goal) -> Tensor:
    """Targeted difference of logits ratio (Croce and Hein 2020).

    With fewer than four classes label and target can be all the divisor is made of, which would make the ratio
    constant: the objective is the margin then. Raises `BadInput` for `OutOfTop`, which the ratio can lead away from.
    """
    if isinstance(goal, OutOfTop):
        raise BadInput("The targeted DLR objective needs a target, the goal is to leave the top. Use dlr or margin.")
    classes = _classes(logits, goal)
    if classes.shape[1] < 4 or isinstance(goal, MULTI_LABEL):
        return goal.lead(logits)
    top = classes.topk(4, 1).values
    return goal.lead(logits) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)


def mean_square_error(logits: Tensor, goal: Goal) -> Tensor:
    """Squared distance of the probabilities from the label's one-hot vector, or minus that from the target's.

    Averaged over classes. Goals of several labels compare the sigmoids with the truth or the target, label by label.
    """
    if isinstance(goal, MULTI_LABEL):
        return square_error(logits, goal)
    targeted = isinstance(goal, Targeted | Toward)
    one_hot = F.one_hot(goal.t if isinstance(goal, Targeted | Toward) else goal.y, logits.shape[1]).to(logits.dtype)
    distance = (logits.softmax(1) - one_hot).square().mean(1)
    return -distance if targeted else distance


def scaled_cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of logits divided by their top-two gap (Yu and Xu 2023): cannot saturate.

    The divisor is a constant for the gradient, so the direction is that of a softmax at a readable temperature.
    Goals of several labels divide by the distance of the closest score from its threshold.
    """
    return _divided(logits, goal, _decided_by(logits, goal))


def sharp_cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of logits scaled to a top-two gap of 4: cannot saturate, and all but ignores the third class.

    Between `scaled_cross_entropy` (a gap of 1) and the `margin` (a gap without end): far from the boundary it still
    weighs the classes against each other, and at the boundary it leads straight across it. The divisor is a constant
    for the gradient. Goals of several labels as for `scaled_cross_entropy`.
    """
    return _divided(logits, goal, _decided_by(logits, goal) / 4)


def _decided_by(logits: Tensor, goal: Goal) -> Tensor:
    # how far the answer is from another one, [N, 1]
    logits = logits.detach()
    if isinstance(goal, MULTI_LABEL):
        return nearest(logits, goal)
    top = _classes(logits, goal).topk(2, 1).values
    return top[:, :1] - top[:, 1:]


def _classes(logits: Tensor, goal: Goal) -> Tensor:
    # a refusal trails the highest class by construction, and says nothing about the scale of the others
    reject = getattr(goal, "reject", None)
    if reject is None:
        return logits
    at = reject % logits.shape[1]
    return logits[:, :-1] if at == logits.shape[1] - 1 else torch.cat([logits[:, :at], logits[:, at + 1 :]], 1)


def _divided(logits: Tensor, goal: Goal, divisor: Tensor) -> Tensor:
    divisor = divisor.clamp_min(1e-12)
    return goal.surprise(cooled(logits, goal, divisor) if isinstance(goal, MULTI_LABEL) else logits / divisor)


def differences(k: int) -> Objective:
    """Return the objective `[N, k]`: the k highest other classes, each minus the label's (DeepFool, FAB).

    A goal other than `Untargeted` says itself which difference counts: its lead, `[N, 1]`, or, where one wrong label
    is enough, the k labels that are nearest to being wrong.
    """
    return _Differences(k)


@dataclasses.dataclass(frozen=True)
class _Differences:
    # a value, so that equal attacks are equal
    k: int

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        several = goal.boundaries(logits, self.k) if isinstance(goal, MultiLabel) else None
        if several is not None:
            return several
        if not isinstance(goal, Untargeted):
            return goal.lead(logits)[:, None]
        others, bar, wrong = without(logits, goal.y), pick(logits, goal.y), logits.shape[1] - 1
        if goal.reject is not None:
            # to be refused is no success, and a wrong class has to beat the refusal too
            refusal = torch.full_like(goal.y, goal.reject % logits.shape[1])
            others, bar, wrong = without(others, refusal), torch.maximum(bar, pick(logits, refusal)), wrong - 1
        return others.topk(min(self.k, wrong), 1).values - bar[:, None]


@dataclasses.dataclass(frozen=True)
class Tempered:
    """Cross-entropy of logits divided by `temperature`, written `cross_entropy/100`.

    What defensive distillation (Papernot et al. 2016) trained with and hides: a network trained on `logits / 100`
    has logits a hundred times too large, whose softmax saturates at temperature 1.
    """

    temperature: float

    def __post_init__(self) -> None:
        """Refuse what cannot divide."""
        # beyond, float32 gradients vanish or turn NaN, and an attack would stand still
        if not 1e-6 <= self.temperature <= 1e6:
            raise BadInput(f"The temperature is {self.temperature}, expected a positive number from 1e-6 to 1e6.")

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """Return the objective `[N]`."""
        if isinstance(goal, MULTI_LABEL):
            return goal.surprise(cooled(logits, goal, self.temperature))
        return goal.surprise(logits / self.temperature)

    def __str__(self) -> str:
        """Return the written form."""
        return _TEMPERED + repr(float(self.temperature)).removesuffix(".0")


_TEMPERED = "cross_entropy/"


OBJECTIVES: dict[str, Objective] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "dlr_targeted": dlr_targeted,
    "mean_square_error": mean_square_error,
    "scaled_cross_entropy": scaled_cross_entropy,
    "sharp_cross_entropy": sharp_cross_entropy,
}


def parse_objective(written: str) -> Objective:
    """Return the objective of a name in `OBJECTIVES`, or of the form `cross_entropy/T`; raises `BadInput`."""
    if written in OBJECTIVES:
        return OBJECTIVES[written]
    after = written.removeprefix(_TEMPERED)
    if after != written and _is_number(after):
        return Tempered(float(after))
    raise BadInput(
        f"{written!r} is no objective, expected one of {', '.join(OBJECTIVES)}, or cross_entropy/T with a temperature, "
        f"such as cross_entropy/100.{did_you_mean(written, OBJECTIVES)}"
    )


def written_objective(objective: Objective) -> str:
    """Return the written form of an objective; `parse_objective` reads it, where it is one of Assay's own."""
    for name, one in OBJECTIVES.items():
        if one == objective:
            return name
    if isinstance(objective, Tempered):
        return str(objective)
    return getattr(objective, "__name__", repr(objective))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
