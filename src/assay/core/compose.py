"""Compositions are values: several attacks, several starts or several targets as one method."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Toward, Untargeted, without
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.search import Attack, Found, Keeps, bill, nothing, put, search
from assay.core.tensors import take


@dataclasses.dataclass(frozen=True)
class Restarts:
    """`attack` from `n` random starts; each later one meets only the samples still standing."""

    attack: Method
    n: int

    def __post_init__(self) -> None:
        _at_least_one(self.n, "Restarts", "start")


@dataclasses.dataclass(frozen=True)
class EachTarget:
    """`attack` once towards each of the `k` likeliest wrong classes, most likely first. The goal is `Untargeted`."""

    attack: Method
    k: int

    def __post_init__(self) -> None:
        _at_least_one(self.k, "EachTarget", "target")


@dataclasses.dataclass(frozen=True)
class Cascade:
    """One method after the other, each on the samples still standing."""

    parts: tuple[Method, ...]

    def __post_init__(self) -> None:
        _at_least_one(len(self.parts), "Cascade", "part")


def _at_least_one(n: int, kind: str, what: str) -> None:
    # of no attack at all every sample would be a survivor
    if n < 1:
        raise BadInput(f"{kind} with {n} {what}s attacks nothing; expected 1 {what} or more.")


Method: TypeAlias = "Attack | Restarts | EachTarget | Cascade"


def run(method: Method, problem: Problem, draws: Draws, *, keeps: Keeps | None = None) -> Found:
    """Run an attack or a composition; the same promises as `search`."""
    match method:
        case Cascade(parts):
            stages = [(part, problem, draws.fold(f"part {i}")) for i, part in enumerate(parts)]
            return _merged(stages, nothing(problem.x), keeps or Keeps.FIRST)
        case Restarts(attack, n):
            # the first start is the plain attack's own, so that one restart more can only add
            stages = [(attack, problem, draws.fold(f"restart {i}") if i else draws) for i in range(n)]
            return _merged(stages, nothing(problem.x), keeps or kept_by(method))
        case EachTarget(attack, k):
            return _each_target(attack, k, problem, draws, keeps or kept_by(method))
    return search(method, problem, draws, keeps=keeps)


def kept_by(method: Method) -> Keeps:
    """Return which point a method keeps by default."""
    match method:
        case Cascade():
            return Keeps.FIRST
        case Restarts(attack, _) | EachTarget(attack, _):
            return kept_by(attack)
    return method.keeps


def _merged(stages: list[tuple[Method, Problem, Draws]], found: Found, keeps: Keeps) -> Found:
    # of several runs that each keep their last point, the most damaging one counts
    merge = Keeps.WORST if keeps is Keeps.LAST else keeps
    for method, problem, draws in stages:
        left = _standing(found, keeps)
        if not len(left):
            break
        new = run(method, take(problem, left), draws.take(left), keeps=keeps)
        found = put(found, left, new, merge)
    return found


def _standing(found: Found, keeps: Keeps) -> Tensor:
    everyone = torch.arange(len(found.success), device=found.success.device)
    return everyone[~found.success] if keeps is Keeps.FIRST else everyone


def _each_target(attack: Method, k: int, problem: Problem, draws: Draws, keeps: Keeps) -> Found:
    goal = problem.goal
    if not isinstance(goal, Untargeted):
        # the runs are judged as untargeted ones: any other goal would be forgotten
        raise BadInput(f"EachTarget is an untargeted attack, the goal is {type(goal).__name__}. Use the attack alone.")
    found = nothing(problem.x)
    seen = problem.seen_at_x
    if seen is None:
        seen = problem.oracle.look(problem.x, problem.goal, margin, Access.SCORES, draws.fold("rank"))
        bill(found, torch.arange(len(problem.x), device=problem.x.device), seen)
    logits = seen.logits
    wrong = logits.shape[1] - (1 if goal.reject is None else 2)
    if k > wrong:
        raise BadInput(f"{k} targets asked for, but this model has {wrong} wrong classes. Use fewer.")
    others = without(logits, goal.y)
    if goal.reject is not None:
        others = without(others, torch.full_like(goal.y, goal.reject % logits.shape[1]))
    order = others.topk(k, 1).indices
    goals = [Toward(goal.y, order[:, j], goal.reject) for j in range(k)]
    # what is known was said about another goal
    toward = [dataclasses.replace(problem, goal=one, known=None) for one in goals]
    stages = [(attack, problem, draws.fold(f"target {j}")) for j, problem in enumerate(toward)]
    return _merged(stages, found, keeps)
