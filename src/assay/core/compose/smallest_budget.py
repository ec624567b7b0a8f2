"""The smallest budget at which an attack of a fixed budget succeeds, sample by sample."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from assay.core.compose.method import CountPasses, Method, Passes, check_count, run, stages
from assay.core.draws import Draws
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, bill, nothing, put
from assay.core.tensors import take

# of the way to the farthest corner of the box: more than breaks most images, because an attack that succeeds stops
# early, while one that fails pays for all its looks
_FIRST = 0.1


@dataclasses.dataclass(frozen=True)
class SmallestBudget:
    """The smallest budget at which `attack` succeeds, by bisection: at most `rounds` runs of it per sample.

    The budget doubles until a first success, then the interval between the largest failure and the smallest success is
    halved; a success smaller than its budget narrows it further. Only samples with something left to find are asked.
    Within a finite budget the first run has all of it, and a sample that withstands it is finished. Keeps the smallest
    success; asked for the first one, it stops there. `attack` keeps its FIRST success. Cost: 1 forward, `rounds` runs.
    """

    attack: Method
    rounds: int = 10

    keeps: ClassVar[Keeps] = Keeps.SMALLEST
    first: ClassVar[None] = None  # it begins with the image itself
    lens: ClassVar[None] = None
    surrogate: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_count(self.rounds, "SmallestBudget", "round")

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Keep the smallest success, or leave a sample alone after its FIRST one.

        An image that reaches the goal as it is needs no run.
        """
        if not len(problem.x):
            return nothing(problem.x)
        found = _unchanged(problem, draws)
        bracket = _begun(problem, found)
        for i in range(self.rounds):
            left = bracket.open.nonzero().squeeze(1)
            if not len(left):
                break
            own = _at(take(problem, left), bracket.budget[left])
            new = run(self.attack, own, draws.take(left).fold(f"round {i}"), keeps=Keeps.FIRST)
            found = put(found, left, new, Keeps.SMALLEST)
            broke = torch.zeros_like(bracket.open)
            broke[left] = new.success
            bracket = _narrowed(bracket, broke, found, problem)
            if keeps is Keeps.FIRST:
                bracket = dataclasses.replace(bracket, open=bracket.open & ~found.success)
        return found

    def in_norm(self, norm: str) -> Method:
        """Return itself: each run asks the attack."""
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        """The attack."""
        return (self.attack,)

    def with_children(self, children: tuple[Method, ...]) -> SmallestBudget:
        """Return the bisection of another attack."""
        return dataclasses.replace(self, attack=children[0])

    @property
    def access(self) -> Access:
        """As the attack: the look at the image itself needs the labels alone."""
        return self.attack.access

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of the attack."""
        return stages(self.attack)

    def passes(self, of: CountPasses, classes: int | None) -> Passes:
        """Count every round."""
        return of(self.attack, classes).times(self.rounds)


@dataclasses.dataclass(frozen=True)
class _Bracket:
    # `low` failed, `high` is the smallest success (infinite before one), `budget` is asked next, up to `limit`
    low: Tensor
    high: Tensor
    budget: Tensor
    limit: Tensor
    open: Tensor


def _unchanged(problem: Problem, draws: Draws) -> SearchResult:
    # at size 0 no attack is needed
    found, seen = nothing(problem.x), problem.seen_at_x
    if seen is None:
        seen = problem.oracle.look(problem.x, problem.goal, margin, Access.SCORES, draws.at(0))
        bill(found, torch.arange(len(problem.x), device=problem.x.device), seen)
    size = torch.zeros_like(found.size)
    return found._replace(success=seen.reached.clone(), gap=seen.gap.clone(), size=size, logits=seen.logits.clone())


def _begun(problem: Problem, found: SearchResult) -> _Bracket:
    threat, zero = problem.threat, torch.zeros_like(found.size)
    eps = torch.as_tensor(threat.eps, dtype=zero.dtype, device=zero.device).expand_as(zero)
    limit = torch.minimum(threat.widest(problem.x), eps)
    # within a finite budget the first question is whether anything in it succeeds
    first = torch.where(eps.isinf(), threat.norm.scaled(threat.extent(problem.x), _FIRST), eps)
    high = torch.where(found.success, zero, torch.inf)
    return _Bracket(zero, high, torch.minimum(first, limit), limit, ~found.success & (limit > 0))


def _narrowed(bracket: _Bracket, broke: Tensor, found: SearchResult, problem: Problem) -> _Bracket:
    norm = problem.threat.norm
    failed = bracket.open & ~broke
    low = torch.where(failed, torch.maximum(bracket.low, bracket.budget), bracket.low)
    high = torch.where(found.success, found.size, bracket.high)
    # a run that found less than its budget may have gone below one that failed
    low = torch.where(low < high, low, 0)
    middle = norm.between(low, high)
    wider = torch.minimum(norm.scaled(bracket.budget, 2), bracket.limit)
    budget = torch.where(high.isinf(), wider, middle)
    more = torch.where(high.isinf(), bracket.budget < bracket.limit, (middle > low) & (middle < high))
    return dataclasses.replace(bracket, low=low, high=high, budget=budget, open=bracket.open & more)


def _at(problem: Problem, budget: Tensor) -> Problem:
    threat = problem.threat.at(budget)
    start = problem.start if problem.start is None else threat.project(problem.start, problem.x)
    return dataclasses.replace(problem, threat=threat, start=start)
