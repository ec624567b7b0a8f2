"""One method over several budgets, without paying for what one budget already showed about another.

Two questions, and every number says which:

- `as_attacked`: what this attack does at each budget. Always the last point; may fall as the budget grows.
- `worst_case`: robust accuracy. A sample broken inside a ball is broken inside every larger one, so only survivors
  go on, and the curve can only fall.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from assay.core.compose import Method, first_attack, for_norm, run
from assay.core.draws import Draws
from assay.core.objective import cross_entropy
from assay.core.oracle import Access
from assay.core.problem import CachedLook, Problem
from assay.core.result import Keeps, SearchResult, bill, nothing, put, unbilled
from assay.core.tensors import counts, take
from assay.vocabulary import Order, Question


class Curve(NamedTuple):
    """Results per budget, in the order asked. `origin[b]` (int64 `[N]`) is the budget whose search broke a sample.

    It is -1 where budget b did not break the sample, b itself for a break of its own, and the index of a smaller
    budget for an inherited break. Passes shared by several budgets are booked on the first budget asked.
    """

    found: list[SearchResult]
    origin: list[Tensor]


def sweep(
    method: Method,
    problem: Problem,
    draws: Draws,
    budgets: Sequence[float],
    question: Question = Question.AS_ATTACKED,
    *,
    order: Order = Order.ASCENDING,
) -> Curve:
    """Run `method` at every budget of `problem.threat` and return one result per budget.

    An attack whose first query is the same at every budget (FGSM, BIM) is asked for it once: eight budgets of FGSM
    cost nine forwards and one backward. An attack that keeps the smallest perturbation gives the curve in one run.
    """
    method = for_norm(method, problem.threat.norm.name)
    everyone = torch.arange(len(problem.x), device=problem.x.device)
    if not len(everyone) or not budgets:
        return Curve([nothing(problem.x) for _ in budgets], [counts(problem.x) for _ in budgets])
    shared = _shared_look(method, problem, draws, budgets)
    smallest, down = method.keeps is Keeps.SMALLEST, order is Order.DESCENDING
    down = down and question is Question.WORST_CASE
    if shared is None and problem.known is None and (smallest or down):
        # their survivors show the image itself
        shared = first_look(method, problem, draws)
    if shared is not None:
        problem = dataclasses.replace(problem, known=shared)
    if smallest:
        # what it does at a budget is what its one run found inside it
        curve = _by_size(method, problem, draws, budgets)
    elif question is Question.AS_ATTACKED:
        curve = _as_attacked(method, problem, draws, budgets)
    elif down:
        curve = _descending(method, problem, draws, budgets)
    else:
        curve = _ascending(method, problem, draws, budgets)
    if shared is not None:
        bill(curve.found[0], everyone, shared.seen)
    return curve


def untouched(problem: Problem, budgets: Sequence[float]) -> Curve:
    """Return the curve of images that nothing was tried on; `problem.known` is what the model says of them."""
    return Curve([_untouched(problem) for _ in budgets], [counts(problem.x, -1) for _ in budgets])


def placed(curve: Curve, at: Tensor, part: Curve, first: int) -> Curve:
    """Return `curve` with `part`, which is about the images `at` from budget number `first` on, in its place."""
    found, origin = list(curve.found), list(curve.origin)
    for i, (one, by) in enumerate(zip(part.found, part.origin, strict=True), first):
        found[i] = put(found[i], at, one, Keeps.LAST)
        origin[i] = origin[i].index_copy(0, at, torch.where(by < 0, by, by + first))
    return Curve(found, origin)


def first_look(method: Method, problem: Problem, draws: Draws) -> CachedLook:
    """Ask the model once about the images themselves, with the gradient if `method` begins by asking for it.

    Its logits are the clean prediction; as a problem's `known`, the same look is the attack's first.
    """
    attack = first_attack(for_norm(method, problem.threat.norm.name))
    access = attack.access if attack is not None and attack.steps > 0 else Access.SCORES
    objective = cross_entropy if attack is None else attack.objective
    if attack is not None and access is Access.GRADIENT:
        query = attack.init(problem, draws.fold("init")).query
        access = access if torch.equal(problem.threat.snap(query, problem.x), problem.x) else Access.SCORES
    seen = problem.oracle.look(problem.x, problem.goal, objective, access, draws.at(0))
    return CachedLook(problem.x, objective, seen)


def _shared_look(method: Method, problem: Problem, draws: Draws, budgets: Sequence[float]) -> CachedLook | None:
    # an attack whose first query does not depend on the budget: ask for all budgets at once
    attack = first_attack(method)
    sizes = [b for b in budgets if b > 0]
    if problem.known is not None or attack is None or len(sizes) < 2 or attack.steps == 0:
        return None
    at = draws.fold("init")
    low, high = (attack.init(_at(problem, b), at).query for b in (min(sizes), max(sizes)))
    if not torch.equal(low, high) or problem.threat.grid is not None:
        return None
    # where the box leaves no room, a start that depends on the budget looks as if it did not: what is shared, and with
    # it what a sample costs, is for the attack to say, not for the images of a chunk
    roomy = dataclasses.replace(take(problem, torch.zeros_like(draws.ids[:1])), x=torch.full_like(low[:1], 0.5))
    one = at.take(torch.zeros_like(at.ids[:1]))
    if not torch.equal(*(attack.init(_at(roomy, b), one).query for b in (min(sizes), max(sizes)))):
        return None
    seen = problem.oracle.look(low, problem.goal, attack.objective, attack.access, draws.at(0))
    return CachedLook(low, attack.objective, seen)


def _as_attacked(method: Method, problem: Problem, draws: Draws, budgets: Sequence[float]) -> Curve:
    found = [_one(method, _at(problem, b), draws, Keeps.LAST) for b in budgets]
    return Curve(found, [torch.where(f.success, i, -1) for i, f in enumerate(found)])


def _by_size(method: Method, problem: Problem, draws: Draws, budgets: Sequence[float]) -> Curve:
    whole = run(method, _at(problem, torch.inf), draws)
    found, origin = [], []
    for i, budget in enumerate(budgets):
        broken = whole.success & problem.threat.at(budget).allows(whole.size)
        # a survivor's smallest perturbation lies outside this budget
        here = put(_untouched(problem), broken.nonzero().squeeze(1), take(whole, broken), Keeps.LAST)
        costs = (whole if i == 0 else unbilled(whole)).costs
        # of passes the first budget bears the cost; that a point could not be judged is so for every budget
        found.append(SearchResult(*here.results, *costs)._replace(unscored=whole.unscored.clone()))
        origin.append(torch.where(broken, i, -1))
    return Curve(found, origin)


def _untouched(problem: Problem) -> SearchResult:
    # the images themselves, with what the model said about them, not counted as broken
    found = nothing(problem.x)
    seen = problem.seen_at_x
    if seen is None:
        return found
    return found._replace(gap=seen.gap.clone(), size=torch.zeros_like(found.size), logits=seen.logits.clone())


def _ascending(method: Method, problem: Problem, draws: Draws, budgets: Sequence[float]) -> Curve:
    found: dict[int, SearchResult] = {}
    origin: dict[int, Tensor] = {}
    here, by = nothing(problem.x), counts(problem.x, -1)
    for i in sorted(range(len(budgets)), key=lambda j: budgets[j]):
        left = (~here.success).nonzero().squeeze(1)
        here = unbilled(here)
        if len(left):
            new = _one(method, _at(take(problem, left), budgets[i]), draws.take(left), Keeps.FIRST)
            # a survivor shows the latest attempt on it, a broken sample the perturbation that broke it
            here = put(here, left, new, Keeps.LAST)
            by = torch.where(here.success & (by < 0), i, by)
        found[i], origin[i] = here, by
    return Curve([found[i] for i in range(len(budgets))], [origin[i] for i in range(len(budgets))])


def _descending(method: Method, problem: Problem, draws: Draws, budgets: Sequence[float]) -> Curve:
    found: dict[int, SearchResult] = {}
    left, warm, lost = torch.arange(len(problem.x), device=problem.x.device), None, counts(problem.x)
    for i in sorted(range(len(budgets)), key=lambda j: -budgets[j]):
        # what could not be judged at the budget where a sample is taken to stand was not judged at smaller ones
        here = _untouched(problem)._replace(unscored=lost.clone())
        if len(left):
            new = _twice(method, _at(take(problem, left), budgets[i]), draws.take(left), warm)
            here = put(here, left, new, Keeps.LAST)
            lost[left] = torch.where(new.success, 0, new.unscored)
            left, warm = left[new.success], new.x[new.success]
        found[i] = here
    return Curve(
        [found[i] for i in range(len(budgets))],
        [torch.where(found[i].success, i, -1) for i in range(len(budgets))],
    )


def _twice(method: Method, problem: Problem, draws: Draws, warm: Tensor | None) -> SearchResult:
    # from what broke the larger ball, then, where that fails, the way every other budget is attacked: so that going
    # down the budgets gives a sample no fewer chances at the budget where it first stands than going up would
    if warm is None or problem.threat.eps == 0:
        return _one(method, problem, draws, Keeps.FIRST)
    # whether a warm start happens to be the image must not decide, chunk by chunk, what is billed
    near = dataclasses.replace(problem, start=problem.threat.project(warm, problem.x), known=None)
    found = _one(method, near, draws.fold("warm"), Keeps.FIRST)
    stood = (~found.success).nonzero().squeeze(1)
    if not len(stood):
        return found
    again = _one(method, take(problem, stood), draws.take(stood), Keeps.FIRST)
    return put(found, stood, again, Keeps.WORST)


def _one(method: Method, problem: Problem, draws: Draws, keeps: Keeps) -> SearchResult:
    eps = problem.threat.eps
    if not isinstance(eps, Tensor) and eps == 0:
        return _clean(problem, draws)
    return run(method, problem, draws, keeps=keeps)


def _clean(problem: Problem, draws: Draws) -> SearchResult:
    # the ball of size 0 holds the image alone: nothing to search, and no passes to spend
    found = nothing(problem.x)
    everyone = torch.arange(len(problem.x), device=problem.x.device)
    seen = problem.seen_at_x
    if seen is None:
        seen = problem.oracle.look(problem.x, problem.goal, cross_entropy, Access.SCORES, draws.at(0))
        bill(found, everyone, seen)
    size = torch.zeros_like(found.size)
    return found._replace(success=seen.reached, gap=seen.gap, size=size, logits=seen.logits)


def _at(problem: Problem, budget: float) -> Problem:
    return dataclasses.replace(problem, threat=problem.threat.at(budget))
