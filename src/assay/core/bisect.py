"""The smallest budget at which an attack of a fixed budget succeeds, sample by sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.found import Found, Keeps, bill, nothing, put
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.tensors import take

# of the way to the farthest corner of the box: more than breaks most images, because an attack that succeeds stops
# early, while one that fails pays for all its looks
_FIRST = 0.1

Ask = Callable[[Problem, Draws], Found]


@dataclasses.dataclass(frozen=True)
class _Bracket:
    # `low` failed, `high` is the smallest success (infinite before one), `budget` is asked next, up to `limit`
    low: Tensor
    high: Tensor
    budget: Tensor
    limit: Tensor
    open: Tensor


def smallest_budget(ask: Ask, rounds: int, problem: Problem, draws: Draws, *, once: bool = False) -> Found:
    """Return the smallest success over at most `rounds` runs of `ask` per sample, each at a budget of its own.

    An image that reaches the goal as it is needs no run. `once` leaves a sample alone after its first success.
    """
    if not len(problem.x):
        return nothing(problem.x)
    found = _unchanged(problem, draws)
    bracket = _begun(problem, found)
    for i in range(rounds):
        left = bracket.open.nonzero().squeeze(1)
        if not len(left):
            break
        own = _at(take(problem, left), bracket.budget[left])
        new = ask(own, draws.take(left).fold(f"round {i}"))
        found = put(found, left, new, Keeps.SMALLEST)
        broke = torch.zeros_like(bracket.open)
        broke[left] = new.success
        bracket = _narrowed(bracket, broke, found, problem)
        if once:
            bracket = dataclasses.replace(bracket, open=bracket.open & ~found.success)
    return found


def _unchanged(problem: Problem, draws: Draws) -> Found:
    # at size 0 no attack is needed
    found, seen = nothing(problem.x), problem.seen_at_x
    if seen is None:
        seen = problem.oracle.look(problem.x, problem.goal, margin, Access.SCORES, draws.at(0))
        bill(found, torch.arange(len(problem.x), device=problem.x.device), seen)
    size = torch.zeros_like(found.size)
    return found._replace(success=seen.reached.clone(), gap=seen.gap.clone(), size=size, logits=seen.logits.clone())


def _begun(problem: Problem, found: Found) -> _Bracket:
    threat, zero = problem.threat, torch.zeros_like(found.size)
    eps = torch.as_tensor(threat.eps, dtype=zero.dtype, device=zero.device).expand_as(zero)
    limit = torch.minimum(threat.widest(problem.x), eps)
    # within a finite budget the first question is whether anything in it succeeds
    first = torch.where(eps.isinf(), threat.norm.scaled(threat.extent(problem.x), _FIRST), eps)
    high = torch.where(found.success, zero, torch.inf)
    return _Bracket(zero, high, torch.minimum(first, limit), limit, ~found.success & (limit > 0))


def _narrowed(bracket: _Bracket, broke: Tensor, found: Found, problem: Problem) -> _Bracket:
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
