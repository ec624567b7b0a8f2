"""Optimisers as attacks: they climb the objective of whatever the rows are, above all of variables over a data set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.attacks.gradient import gradient_of, start_of
from assay.attacks.parts.adam import Momenta
from assay.core.draws import Draws
from assay.core.objective import Objective, cross_entropy
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.search import Keeps


class Rolling(NamedTuple):
    """A point and the velocity it moves with."""

    query: Tensor
    velocity: Tensor
    done: bool = False


class Moments(NamedTuple):
    """A point with the running means of its gradient and of the gradient's square, after `t` steps."""

    query: Tensor
    mean: Tensor
    square: Tensor
    t: int = 0
    done: bool = False


@dataclasses.dataclass(frozen=True)
class Momentum:
    """Gradient ascent with momentum (Polyak 1964): v <- momentum v + g, x <- x + rate v.

    Cost: 1 gradient look per step.
    """

    steps: int = 100
    rate: float = 0.1
    momentum: float = 0.8
    objective: Objective = cross_entropy

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.LAST

    def init(self, problem: Problem, draws: Draws) -> Rolling:
        """Begin at rest."""
        at = start_of(problem)
        return Rolling(at, torch.zeros_like(at))

    def step(self, state: Rolling, seen: Observation, problem: Problem, draws: Draws) -> Rolling:
        """Gather speed along the gradient."""
        velocity = self.momentum * state.velocity + gradient_of(seen)
        return Rolling(problem.threat.project(state.query + self.rate * velocity, problem.x), velocity)


@dataclasses.dataclass(frozen=True)
class Adam:
    """Gradient ascent by Adam (Kingma and Ba 2015): steps of about `rate` per value, whatever the gradient's scale.

    Cost: 1 gradient look per step.
    """

    steps: int = 100
    rate: float = 0.1
    objective: Objective = cross_entropy

    access: ClassVar[Access] = Access.GRADIENT
    keeps: ClassVar[Keeps] = Keeps.LAST

    def init(self, problem: Problem, draws: Draws) -> Moments:
        """Begin without a memory."""
        at = start_of(problem)
        return Moments(at, torch.zeros_like(at), torch.zeros_like(at))

    def step(self, state: Moments, seen: Observation, problem: Problem, draws: Draws) -> Moments:
        """Step along the mean gradient, each value in units of its own size."""
        grad, t = gradient_of(seen), state.t + 1
        momenta = Momenta(state.mean, state.square).after(grad)
        moved = state.query + self.rate * momenta.direction(t)
        return Moments(problem.threat.project(moved, problem.x), *momenta, t)
