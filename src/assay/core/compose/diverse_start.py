"""A start that differs from others in what the model answers there, not only in the pixels."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from assay.core.compose.merging import merged
from assay.core.compose.method import CountPasses, Method, Passes, stages
from assay.core.draws import Draws
from assay.core.goal import Goal
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.problem import Problem, budget_of
from assay.core.result import Keeps, SearchResult, bill, nothing, put
from assay.core.search import judge_point


@dataclasses.dataclass(frozen=True)
class SomeOutputs:
    """The same goal, climbing a random mixture of the logits, of weights in [-1, 1] for each sample and class."""

    goal: Goal
    draws: Draws

    @property
    def y(self) -> Tensor:
        """The goal's labels."""
        return self.goal.y

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the goal is reached."""
        return self.goal.reached(logits)

    def gap(self, logits: Tensor) -> Tensor:
        """The goal's gap."""
        return self.goal.gap(logits)

    def lead(self, logits: Tensor) -> Tensor:
        """The mixture."""
        weights = 2 * self.draws.uniform("weights", logits.shape[1]).to(logits.dtype) - 1
        # a class that is masked with -inf has no part in it
        return torch.where(logits.isfinite(), logits * weights, 0).sum(1)

    def surprise(self, logits: Tensor) -> Tensor:
        """The mixture."""
        return self.lead(logits)


@dataclasses.dataclass(frozen=True)
class DiverseStart:
    """`attack` from a start diversified in the model's outputs (Tashiro et al. 2020), with one step.

    From a uniform point of the ball two budgets along the steepest direction of a random mixture of the logits,
    projected. In many dimensions uniform points are all alike to a model: where it has no slope at one, it has none at
    the others. Cost: 1 gradient look, then that of the attack. Raises `BadInput` for an endless budget.
    """

    attack: Method

    lens: ClassVar[None] = None
    surrogate: ClassVar[None] = None
    first: ClassVar[None] = None  # it begins by asking about its own point

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Take the step, and attack from there."""
        keeps, x, threat = keeps or self.keeps, problem.x, problem.threat
        found, budget = nothing(x), budget_of(problem)
        if not len(x):
            return found
        own = draws.fold("diverse")
        begin = threat.snap(threat.start(x, own), x)
        seen = problem.oracle.look(begin, SomeOutputs(problem.goal, own), margin, Access.GRADIENT, own.at(0))
        everyone = torch.arange(len(x), device=x.device)
        if keeps is Keeps.LAST:
            bill(found, everyone, seen)
        else:
            found = put(found, everyone, judge_point(seen, begin, problem), keeps)
        assert seen.grad is not None, "it was asked for"
        # scores without an order have no slope either
        move = threat.stride(threat.only(seen.grad.nan_to_num(0, 0, 0)), begin, 2 * budget)
        start = threat.project(begin + move, x)
        return merged([(self.attack, dataclasses.replace(problem, start=start, known=None), draws)], found, keeps)

    def in_norm(self, norm: str) -> Method:
        """Return itself: the run asks the attack."""
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        """The attack."""
        return (self.attack,)

    def with_children(self, children: tuple[Method, ...]) -> DiverseStart:
        """Return another attack from such a start."""
        return dataclasses.replace(self, attack=children[0])

    @property
    def keeps(self) -> Keeps:
        """As the attack."""
        return self.attack.keeps

    @property
    def access(self) -> Access:
        """A gradient for the start, or what the attack needs."""
        return max(Access.GRADIENT, self.attack.access)

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of the attack."""
        return stages(self.attack)

    def passes(self, of: CountPasses, classes: int | None) -> Passes:
        """Count the look at the first point, and the attack."""
        return Passes(1, 1) + of(self.attack, classes)
