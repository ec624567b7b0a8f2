"""Successes against a random model, confirmed by fresh answers."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from assay.core.compose.method import CountPasses, Method, Passes, is_attack, run, stages
from assay.core.draws import Draws
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, nothing
from assay.core.search import judge_point

ANSWERS = 10


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """`attack`, whose points are a success where more than half of `answers` fresh answers of a random model are.

    An attack that looks often enough meets a lucky draw of any random model; whoever then stops has found nothing. The
    answer kept is the first one that agrees with the verdict. Cost: that of the attack, and `answers` forwards.
    """

    attack: Method
    answers: int = ANSWERS

    lens: ClassVar[None] = None
    surrogate: ClassVar[None] = None

    @torch.no_grad()
    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Run the attack, and ask about what it found. One that would stop at its first success goes on instead."""
        # the first is often a lucky draw, next to which a point that errs for sure was still to come
        wanted = keeps or self.attack.keeps
        found = run(self.attack, problem, draws, keeps=Keeps.WORST if wanted is Keeps.FIRST else wanted)
        if not len(problem.x):
            return nothing(problem.x)
        told = confirmed_look(problem, found.x, draws.fold("confirmed"), self.answers)
        judged = judge_point(told, found.x, problem)
        spent = {name: getattr(found, name) + getattr(judged, name) for name in ("forwards", "backwards", "queries")}
        return judged._replace(part=found.part, looks=found.looks, unscored=found.unscored + judged.unscored, **spent)

    def in_norm(self, norm: str) -> Method:
        """Return itself: the run asks the attack."""
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        """The attack."""
        return (self.attack,)

    def with_children(self, children: tuple[Method, ...]) -> Confirmed:
        """Return another attack whose points are asked about as often."""
        return dataclasses.replace(self, attack=children[0])

    @property
    def keeps(self) -> Keeps:
        """As the attack."""
        return self.attack.keeps

    @property
    def access(self) -> Access:
        """As the attack."""
        return self.attack.access

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of the attack."""
        return stages(self.attack)

    def passes(self, of: CountPasses, classes: int | None) -> Passes:
        """Count the attack, and the answers."""
        return of(self.attack, classes) + Passes(self.answers, 0)

    @property
    def first(self) -> Method:
        """The attack."""
        return self.attack


def confirmed_look(problem: Problem, points: Tensor, draws: Draws, answers: int = ANSWERS) -> Observation:
    """Ask a random model `answers` times about `points`: the goal is reached where more than half of them reach it.

    What is seen is the first answer that agrees, and the cost is that of all.
    """
    each = [
        problem.oracle.look(points, problem.goal, margin, Access.SCORES, draws.fold(f"answer {i}"))
        for i in range(answers)
    ]
    votes = torch.stack([seen.reached for seen in each])
    reached = 2 * votes.sum(0) > answers
    which = (votes == reached).to(torch.int8).argmax(0)
    at = torch.arange(len(points), device=points.device)
    logits, loss, gap = (
        torch.stack([getattr(seen, name) for seen in each])[which, at] for name in ("logits", "loss", "gap")
    )
    cost = each[0].cost
    for seen in each[1:]:
        cost = cost.plus(seen.cost)
    return Observation(logits, loss, gap, reached, None, cost)


def confirmed(method: Method) -> Method:
    """Return a method whose attacks are each confirmed, so that no lucky draw ends it before the next one."""
    if is_attack(method) or method.lens is not None or method.surrogate is not None:
        return Confirmed(method)
    return method.with_children(tuple(confirmed(child) for child in method.children))
