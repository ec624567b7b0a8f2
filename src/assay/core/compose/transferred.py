"""Attacks made on another model."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from assay.core.compose.method import CountPasses, Method, Passes, for_norm, run, stages
from assay.core.draws import Draws
from assay.core.goal import facing
from assay.core.objective import margin
from assay.core.oracle import Access, Oracle
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, nothing
from assay.core.search import judge_point


@dataclasses.dataclass(frozen=True)
class Transferred:
    """`attack` on a surrogate, of which one look at the model itself then judges the result.

    Nothing on the way is known to break the model, so the attack keeps its last point, or the smallest success where
    that is what it looks for. `surrogate` is the oracle of one network, or of several. Forwards and backwards are those
    of both models together; queries are those of the model itself: one.
    """

    attack: Method
    surrogate: Oracle

    keeps: ClassVar[Keeps] = Keeps.LAST
    access: ClassVar[Access] = Access.LABELS
    first: ClassVar[None] = None  # the surrogate is asked first
    lens: ClassVar[None] = None

    @torch.no_grad()
    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Make the images on the surrogate and judge them once, whatever `keeps` says."""
        if not len(problem.x):
            return nothing(problem.x)
        goal = facing(problem.goal, self.surrogate, problem.oracle)
        made = crafted(self.attack, dataclasses.replace(problem, oracle=self.surrogate, known=None, goal=goal), draws)
        seen = problem.oracle.look(made.x, problem.goal, margin, Access.LABELS, draws.fold("judge"))
        found = judge_point(seen, made.x, problem)
        spent = {name: getattr(found, name) + getattr(made, name) for name in ("forwards", "backwards", "looks")}
        return found._replace(part=made.part, **spent)

    def in_norm(self, norm: str) -> Method:
        """Return itself: the run asks the attack."""
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        """The attack."""
        return (self.attack,)

    def with_children(self, children: tuple[Method, ...]) -> Transferred:
        """Return another attack on the same surrogate."""
        return dataclasses.replace(self, attack=children[0])

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of the attack."""
        return stages(self.attack)

    def passes(self, of: CountPasses, classes: int | None) -> Passes:
        """Count the attack's passes, which the surrogate makes, and the look that judges."""
        return of(self.attack, classes) + Passes(1, 0)


def crafted(attack: Method, problem: Problem, draws: Draws) -> SearchResult:
    """Return what an attack makes for other models to judge: its last point, or its smallest success.

    The first success would lie just beyond the boundary of the model at hand, and carry over to few others.
    """
    smallest = for_norm(attack, problem.threat.norm.name).keeps is Keeps.SMALLEST
    return run(attack, problem, draws, keeps=Keeps.SMALLEST if smallest else Keeps.LAST)
