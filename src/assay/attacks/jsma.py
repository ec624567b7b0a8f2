"""JSMA: two values at a time, chosen by the Jacobian's saliency map."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Option, check_options
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Goal, OutOfTop, Targeted, Toward, pick, without
from assay.core.multi_label import MULTI_LABEL
from assay.core.objective import Objective
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.tensors import flat

# candidates by each of three orders; the best pair is almost always among them
_CANDIDATES = 32
# softmax at this share of the logits' standard deviation is as soft as that of a network trained without tricks
_SPREAD = 0.2


class Outputs(enum.Enum):
    """Which outputs the Jacobian is of."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


@dataclasses.dataclass(frozen=True)
class TargetAndRest:
    """The objective `[N, 2]`: the output of the class to reach, and the sum of all others.

    A goal without a target goes for the likeliest class that counts: the best wrong one, or the k-th best. Without a
    temperature the logits are divided by a fifth of their standard deviation, a constant for the gradient.
    """

    outputs: Outputs = Outputs.PROBABILITIES
    temperature: float | None = None

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """Return the objective."""
        t = _target(logits, goal)
        spread = (_SPREAD * logits.detach().std(1, keepdim=True)).clamp_min(1e-12)
        scaled = logits / (spread if self.temperature is None else self.temperature)
        outputs = scaled.softmax(1) if self.outputs is Outputs.PROBABILITIES else scaled
        own = pick(outputs, t)
        return torch.stack([own, outputs.sum(1) - own], 1)


def _target(logits: Tensor, goal: Goal) -> Tensor:
    if isinstance(goal, MULTI_LABEL):
        raise BadInput(
            f"JSMA raises one class against all others, and for {type(goal).__name__} labels do not compete. "
            "Use another L0 attack: sigma-zero, fmn or carlini-wagner."
        )
    if isinstance(goal, Targeted | Toward):
        return goal.t
    k = goal.k if isinstance(goal, OutOfTop) else 1
    return without(logits, goal.y).topk(k, 1).indices[:, -1]


class Marks(NamedTuple):
    """A point, and the values (bool `[N, D]`) that may still move."""

    query: Tensor
    free: Tensor
    done: Tensor | bool = False


@dataclasses.dataclass(frozen=True)
class JSMA:
    """Jacobian saliency map attack (Papernot et al. 2016): move the pair of values that helps the target most.

    With alpha the pair's gradient of the target's output and beta that of all others together, the pair with the
    largest -alpha beta among those with alpha > 0 > beta moves by `theta` (`decreasing`: down, signs turned), until the
    goal is reached, no such pair is left, or `gamma` of the values that may change have. Values at the end of the box
    are out. Only the 32 best values by alpha, by -beta and by both are paired: the pairs of a large image are too
    many. The paper's outputs are the probabilities, `temperature=1`; they saturate on networks with inflated logits
    (Carlini and Wagner 2016), so that without a temperature a fifth of the logits' spread is taken for one. A goal
    without a target climbs to the likeliest wrong class. L0. Cost: 1 forward and 2 backwards per pair, and 1 forward.
    """

    theta: Annotated[float, Option("How far the values of a pair move.", "pixel values", above=True)] = 1.0
    gamma: Annotated[float, Option("How many of the values may change.", "share of the values", most=1)] = 0.145
    decreasing: Annotated[bool, Option("Whether values go down instead of up.")] = False
    outputs: Annotated[Outputs, Option("Which outputs the saliency map is of.")] = Outputs.PROBABILITIES
    temperature: Annotated[
        float | None, Option("What logits are divided by; without it a fifth of their spread.", "logits", above=True)
    ] = None
    steps: Annotated[int, Option("Pairs of values that move at most.", "pairs")] = 1000

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.SMALLEST

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def objective(self) -> Objective:
        """The target's output and the others'."""
        return TargetAndRest(self.outputs, self.temperature)

    def init(self, problem: Problem, draws: Draws) -> Marks:
        """Begin at the given start or at the image."""
        begin = start_of(problem)
        return Marks(begin, self._room(begin, problem))

    def step(self, state: Marks, seen: Observation, problem: Problem, draws: Draws) -> Marks:
        """Move the best pair."""
        scale = problem.threat.scale
        sign = -1.0 if self.decreasing else 1.0
        alpha, beta = (sign * gradient_of(seen) * scale).flatten(2).unbind(1)
        pair, gain = best_pair(alpha, beta, state.free)
        size = problem.threat.size(state.query, problem.x)
        spent = size + 2 > self.gamma * problem.threat.free(problem.x)
        stuck = (gain <= 0) | spent | seen.reached
        step = torch.zeros_like(alpha).scatter(1, pair, sign * self.theta).masked_fill(stuck[:, None], 0)
        moved = problem.threat.clip(state.query + step.view_as(state.query) * scale)
        return Marks(moved, state.free & self._room(moved, problem), stuck)

    def _room(self, z: Tensor, problem: Problem) -> Tensor:
        low, high = problem.threat.box
        return flat(problem.threat.only(z > low if self.decreasing else z < high))


def best_pair(alpha: Tensor, beta: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pair (int64 `[N, 2]`) of free values with the largest -alpha beta, and that number `[N]`.

    It is 0 where no pair of two different values raises the target and lowers the rest.
    """
    up, down = (v.masked_fill(~free, -torch.inf) for v in (alpha, -beta))
    both = up / _largest(alpha) + down / _largest(beta)
    m = min(_CANDIDATES, alpha.shape[1])
    of = torch.cat([order.topk(m, 1).indices for order in (up, down, both)], 1)
    a, b = up.gather(1, of), down.gather(1, of)
    raised, lowered = a[:, :, None] + a[:, None], b[:, :, None] + b[:, None]
    fits = (raised > 0) & (lowered > 0) & (of[:, :, None] != of[:, None])
    gain = torch.where(fits, raised * lowered, 0).flatten(1)
    most, at = gain.max(1)
    pair = torch.stack([at // of.shape[1], at % of.shape[1]], 1)
    return of.gather(1, pair), most


def _largest(value: Tensor) -> Tensor:
    return value.abs().amax(1, keepdim=True).clamp_min(1e-30)
