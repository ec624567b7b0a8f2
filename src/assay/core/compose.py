"""Compositions are values: several attacks, several starts or several targets as one method."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from assay.core.bisect import smallest_budget
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.multi_label import MultiLabel
from assay.core.objective import margin
from assay.core.oracle import Access, Cost, Oracle
from assay.core.problem import Problem
from assay.core.search import Attack, Found, Keeps, bill, judge_point, nothing, put, search
from assay.core.tensors import counts, take


@dataclasses.dataclass(frozen=True)
class Restarts:
    """`attack` from `n` random starts; each later one meets only the samples still standing."""

    attack: Method
    n: int

    def __post_init__(self) -> None:
        _at_least_one(self.n, "Restarts", "start")


@dataclasses.dataclass(frozen=True)
class EachTarget:
    """`attack` once towards each of the `k` likeliest wrong classes, most likely first. The goal is `Untargeted`.

    A model with fewer wrong classes than k has them all attacked.
    """

    attack: Method
    k: int

    def __post_init__(self) -> None:
        _at_least_one(self.k, "EachTarget", "target")


@dataclasses.dataclass(frozen=True)
class Cascade:
    """One method after the other, each on the samples still standing; `names` are the parts' in reports."""

    parts: tuple[Method, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _at_least_one(len(self.parts), "Cascade", "part")
        if self.names and len(self.names) != len(self.parts):
            raise BadInput(f"Cascade has {len(self.parts)} parts and {len(self.names)} names; expected one each.")


class Lens(Protocol):
    """A way of seeing the model: an oracle around an oracle, as a frozen dataclass."""

    @property
    def access(self) -> Access:
        """What it needs to see of the model to answer a gradient look."""

    @property
    def passes(self) -> tuple[int, int]:
        """Forwards and backwards per row of one gradient look."""

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle seen through the lens."""


@dataclasses.dataclass(frozen=True)
class Through:
    """`attack`, seeing the model through `lens`: gradients averaged, estimated or taken elsewhere."""

    lens: Lens
    attack: Method


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

    def __post_init__(self) -> None:
        _at_least_one(self.rounds, "SmallestBudget", "round")


@dataclasses.dataclass(frozen=True)
class Transferred:
    """`attack` on a surrogate, of which one look at the model itself then judges the result.

    Nothing on the way is known to break the model, so the attack keeps its last point, or the smallest success where
    that is what it looks for. `surrogate` is the oracle of one network, or of several. Forwards and backwards are those
    of both models together; queries are those of the model itself: one.
    """

    attack: Method
    surrogate: Oracle


@dataclasses.dataclass(frozen=True)
class ByNorm:
    """Another method for each norm, as `(name, method)` pairs: a threat is attacked with that of its norm."""

    choices: tuple[tuple[str, Method], ...]

    def __post_init__(self) -> None:
        _at_least_one(len(self.choices), "ByNorm", "choice")


def _at_least_one(n: int, kind: str, what: str) -> None:
    # of no attack at all every sample would be a survivor
    if n < 1:
        raise BadInput(f"{kind} with {n} {what}s attacks nothing; expected 1 {what} or more.")


Method: TypeAlias = "Attack | Restarts | EachTarget | Cascade | Through | Transferred | SmallestBudget | ByNorm"
COMPOSITIONS = (Restarts, EachTarget, Cascade, Through, Transferred, SmallestBudget, ByNorm)


def run(method: Method, problem: Problem, draws: Draws, *, keeps: Keeps | None = None) -> Found:
    """Run an attack or a composition; the same promises as `search`."""
    method = for_norm(method, problem.threat.norm.name)
    match method:
        case Cascade(parts):
            runs = [(part, problem, draws.fold(f"part {i}")) for i, part in enumerate(parts)]
            return _merged(runs, nothing(problem.x), keeps or Keeps.FIRST, counted=True)
        case Restarts(attack, n):  # the first start is the plain attack's own: one more can only add
            runs = [(attack, problem, draws.fold(f"restart {i}") if i else draws) for i in range(n)]
            return _merged(runs, nothing(problem.x), keeps or kept_by(method))
        case EachTarget(attack, k):
            return _each_target(attack, k, problem, draws, keeps or kept_by(method))
        case Through(lens, attack):
            # what is known was seen without the lens
            seen_so = dataclasses.replace(problem, oracle=lens(problem.oracle), known=None)
            return run(attack, seen_so, draws, keeps=keeps)
        case SmallestBudget(attack, rounds):
            ask = partial(run, attack, keeps=Keeps.FIRST)
            return smallest_budget(ask, rounds, problem, draws, once=keeps is Keeps.FIRST)
        case Transferred(attack, surrogate):
            return _transferred(attack, surrogate, problem, draws)
    assert not isinstance(method, COMPOSITIONS)
    return search(method, problem, draws, keeps=keeps)


def for_norm(method: Method, norm: str) -> Method:
    """Return what a method is in a norm. Raises `BadInput` where it has nothing for it."""
    if not isinstance(method, ByNorm):
        return method
    choices = dict(method.choices)
    if norm not in choices:
        raise BadInput(f"This attack works in {', '.join(choices)}, not in {norm}.")
    return for_norm(choices[norm], norm)


def kept_by(method: Method) -> Keeps:
    """Return which point a method keeps by default."""
    match method:
        case Cascade():
            return Keeps.FIRST
        case Transferred():
            return Keeps.LAST
        case Restarts(attack, _) | EachTarget(attack, _) | Through(_, attack):
            return kept_by(attack)
        case SmallestBudget():
            return Keeps.SMALLEST
        case ByNorm(choices):
            return kept_by(choices[0][1])
    assert not isinstance(method, COMPOSITIONS)
    return method.keeps


def access_of(method: Method) -> Access:
    """Return what a method needs to see of the model, all its parts together."""
    match method:
        case Cascade(parts):
            return max(access_of(part) for part in parts)
        case Restarts(attack, _):
            return access_of(attack)
        case EachTarget(attack, _):
            return max(Access.SCORES, access_of(attack))
        case SmallestBudget(attack, _):
            # the look at the image itself needs the labels alone
            return access_of(attack)
        case Through(lens, attack):
            return lens.access if access_of(attack) is Access.GRADIENT else access_of(attack)
        case Transferred():
            return Access.LABELS
        case ByNorm(choices):
            return max(access_of(choice) for _, choice in choices)
    assert not isinstance(method, COMPOSITIONS)
    return method.access


def stages(method: Method) -> tuple[str, ...]:
    """Return the names of a method's leaves, in the order in which `Found.part` counts them."""
    match method:
        case Cascade(parts, names):
            leaves = [stages(part) for part in parts]
            # a part of one leaf goes by the part's name
            named = [(name,) if len(own) == 1 else own for name, own in zip(names, leaves, strict=False)]
            return tuple(name for own in named or leaves for name in own)
        case (
            Restarts(attack, _)
            | EachTarget(attack, _)
            | Through(_, attack)
            | Transferred(attack, _)
            | SmallestBudget(attack, _)
        ):
            return stages(attack)
        case ByNorm(choices):
            return stages(choices[0][1])
    return (type(method).__name__.lower(),)


def _merged(runs: list[tuple[Method, Problem, Draws]], found: Found, keeps: Keeps, *, counted: bool = False) -> Found:
    if keeps is Keeps.LAST and not counted and kept_by(runs[0][0]) is Keeps.SMALLEST:
        keeps = Keeps.SMALLEST
    # of several runs that each keep their last point the most damaging one counts, or else the smallest success
    merge = Keeps.WORST if keeps is Keeps.LAST else keeps
    before = 0
    for method, problem, draws in runs:
        left = _standing(found, keeps)
        if not len(left):
            break
        # the last point of an attack that looks for the smallest change is its smallest success
        own = Keeps.SMALLEST if keeps is Keeps.LAST and kept_by(method) is Keeps.SMALLEST else keeps
        new = run(method, take(problem, left), draws.take(left), keeps=own)
        found = put(found, left, new._replace(part=new.part + before), merge)
        before += len(stages(for_norm(method, problem.threat.norm.name))) if counted else 0
    return found


def _standing(found: Found, keeps: Keeps) -> Tensor:
    everyone = torch.arange(len(found.success), device=found.success.device)
    return everyone[~found.success] if keeps is Keeps.FIRST else everyone


@torch.no_grad()
def _transferred(attack: Method, surrogate: Oracle, problem: Problem, draws: Draws) -> Found:
    if not len(problem.x):
        return nothing(problem.x)
    made = crafted(attack, dataclasses.replace(problem, oracle=surrogate, known=None), draws)
    seen = problem.oracle.look(made.x, problem.goal, margin, Access.LABELS, draws.fold("judge"))
    found = judge_point(seen, made.x, problem)
    spent = {name: getattr(found, name) + getattr(made, name) for name in ("forwards", "backwards", "looks")}
    return found._replace(part=made.part, **spent)


def crafted(attack: Method, problem: Problem, draws: Draws) -> Found:
    """Return what an attack makes for other models to judge: its last point, or its smallest success.

    The first success would lie just beyond the boundary of the model at hand, and carry over to few others.
    """
    smallest = kept_by(for_norm(attack, problem.threat.norm.name)) is Keeps.SMALLEST
    return run(attack, problem, draws, keeps=Keeps.SMALLEST if smallest else Keeps.LAST)


def _each_target(attack: Method, k: int, problem: Problem, draws: Draws, keeps: Keeps) -> Found:
    goal = problem.goal
    if not isinstance(goal, Untargeted | MultiLabel):
        # the runs are judged as untargeted ones: any other goal would be forgotten
        raise BadInput(f"EachTarget is an untargeted attack, the goal is {type(goal).__name__}. Use the attack alone.")
    found = nothing(problem.x)
    if not len(problem.x):
        return found
    seen = problem.seen_at_x
    if seen is None:
        seen = problem.oracle.look(problem.x, problem.goal, margin, Access.SCORES, draws.fold("rank"))
    else:
        seen = seen._replace(cost=Cost(counts(problem.x), counts(problem.x)))
    everyone = torch.arange(len(problem.x), device=problem.x.device)
    if keeps is Keeps.FIRST:
        # who is wrong before the attack is finished
        found = put(found, everyone, judge_point(seen, problem.x, problem), keeps)
    else:
        bill(found, everyone, seen)
    goals = goal.toward_each(seen.logits, k)
    # what is known was said about another goal
    toward = [dataclasses.replace(problem, goal=one, known=None) for one in goals]
    runs = [(attack, problem, draws.fold(f"target {j}")) for j, problem in enumerate(toward)]
    return _merged(runs, found, keeps)
