"""Gradient attacks without gradients: NES and SPSA climb an estimate from scores."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.options import Climbed, Option, Queries
from assay.attacks.parts.adam import Momenta
from assay.attacks.parts.optimisers import Moments
from assay.core.compose import Through
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.finite_differences import Directions, FiniteDifferences
from assay.core.objective import Objective, cross_entropy, margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem, budget_of
from assay.core.search import Keeps
from assay.core.tensors import rows

Pairs = Annotated[int, Option("Pairs of opposite probes that estimate a gradient.", "pairs")]
Sigma = Annotated[float, Option("Length of a probe, per value.", "pixel values")]
Rate = Annotated[float, Option("Length of a step, at first.", "budgets")]


def nes(  # shape: an option of the attack each
    queries: Queries = 10_000,
    pairs: Pairs = 25,
    sigma: Sigma = 1e-3,
    rate: Rate = 0.2,
    momentum: Annotated[float, Option("Weight of the past in the running mean of gradients.")] = 0.9,
    objective: Climbed = margin,
) -> Through:
    """Return NES (Ilyas et al. 2018): steps along the momentum of gradients estimated from antithetic normal probes.

    A step goes `rate` of the budget, and half as far where the objective did not rise over the last five looks (not
    below 0.001 of the budget). Probes lie about `sigma` times the root of the number of values away, in pixels. Scores
    alone. Cost: at most `queries` forwards, 2 `pairs` + 1 per step.
    """
    return _through(Plateau(_steps(queries, pairs), rate, momentum, objective), pairs, sigma, Directions.NORMAL)


def spsa(
    queries: Queries = 10_000, pairs: Pairs = 64, sigma: Sigma = 0.01, rate: Rate = 0.1, objective: Climbed = margin
) -> Through:
    """Return SPSA (Uesato et al. 2018): Adam on gradients estimated from probes of random signs, projected.

    Steps go about `rate` of the budget; probes move every value by `sigma`, in pixels.
    Scores alone. Cost: at most `queries` forwards, 2 `pairs` + 1 per step.
    """
    return _through(AdamInBall(_steps(queries, pairs), rate, objective), pairs, sigma, Directions.SIGNS)


def _through(attack: Plateau | AdamInBall, pairs: int, sigma: float, directions: Directions) -> Through:
    return Through(FiniteDifferences(pairs, sigma, directions), attack)


def _steps(queries: int, pairs: int) -> int:
    # the last look costs one query
    steps = (queries - 1) // (2 * pairs + 1)
    if steps < 1:
        raise BadInput(f"{queries} queries pay for no step of {2 * pairs + 2}; use more queries or fewer pairs.")
    return steps


class Slowing(NamedTuple):
    """A point with its momentum, how far steps go (in budgets, `[N]`), and the objective at the last looks."""

    query: Tensor
    momentum: Tensor
    rate: Tensor
    losses: Tensor
    done: bool = False


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Projected steps of `rate` budgets along m <- momentum m + (1 - momentum) g; the rate halves on a plateau.

    Ilyas et al. 2018. A plateau is a fall of the objective over `_PLATEAU` looks. Cost: `steps` gradient looks and 1
    forward.
    """

    steps: int = 200
    rate: float = 0.2
    momentum: float = 0.9
    objective: Objective = cross_entropy

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def init(self, problem: Problem, draws: Draws) -> Slowing:
        """Begin at the given start or at the image, at rest."""
        begin = start_of(problem)
        rate = begin.new_full((len(begin),), self.rate)
        return Slowing(begin, torch.zeros_like(begin), rate, begin.new_full((len(begin), _PLATEAU), torch.nan))

    def step(self, state: Slowing, seen: Observation, problem: Problem, draws: Draws) -> Slowing:
        """Slow down on a plateau and step along the momentum."""
        threat = problem.threat
        losses = torch.cat([state.losses[:, 1:], seen.loss[:, None]], 1)
        # false while the first of them is unknown
        flat = losses[:, 0] >= losses[:, -1]
        rate = torch.where(flat, (state.rate / 2).clamp_min(min(_SLOWEST, self.rate)), state.rate)
        losses = torch.where(flat[:, None], torch.nan, losses)
        momentum = self.momentum * state.momentum + (1 - self.momentum) * gradient_of(seen)
        move = threat.stride(momentum, state.query, rate * budget_of(problem))
        return Slowing(threat.project(state.query + move, problem.x), momentum, rate, losses)


_PLATEAU, _SLOWEST = 5, 1e-3


@dataclasses.dataclass(frozen=True)
class AdamInBall:
    """Adam (Kingma and Ba 2015) with steps of about `rate` budgets in all, each projected into ball and box.

    Cost: `steps` gradient looks and 1 forward.
    """

    steps: int = 100
    rate: float = 0.1
    objective: Objective = margin

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.FIRST

    def init(self, problem: Problem, draws: Draws) -> Moments:
        """Begin at the given start or at the image."""
        at = start_of(problem)
        return Moments(at, *Momenta.none(at))

    def step(self, state: Moments, seen: Observation, problem: Problem, draws: Draws) -> Moments:
        """Step along the mean gradient, each value in units of its own size."""
        grad, t, threat = gradient_of(seen), state.t + 1, problem.threat
        momenta = Momenta(state.mean, state.square).after(grad)
        # in budgets when every value moves as fast as it can
        whole = threat.length(torch.ones_like(grad) * threat.scale)
        pace = rows(self.rate * budget_of(problem) / whole, grad) * threat.scale
        moved = state.query + pace * momenta.direction(t)
        return Moments(threat.project(moved, problem.x), *momenta, t)
