"""Attacks made on another model."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from assay.core.compose.method import CountPasses, Method, Passes, for_norm, run, stages
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import facing
from assay.core.objective import margin
from assay.core.oracle import Access, Oracle
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, nothing, put
from assay.core.search import judge_point
from assay.core.tensors import rows, take


@dataclasses.dataclass(frozen=True)
class Transferred:
    """`attack` on a surrogate, of which one look at the model itself then judges the result.

    Nothing on the way is known to break the model, so the attack keeps its last point, or the smallest success where
    that is what it looks for. `surrogate` is the oracle of one network, or of several. Forwards and backwards are those
    of both models together; queries are those of the model itself: one.

    `pushed` images go as far as the budget lets them: the attack keeps the point that the surrogate gets most wrong,
    and where a success lies inside the budget and does not break the model, the model is asked a second time, about
    the image that lies in the same direction at its edge. A smallest success lies just beyond the surrogate's boundary,
    and carries over to few other models.
    """

    attack: Method
    surrogate: Oracle
    pushed: bool = False

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
        there = dataclasses.replace(problem, oracle=self.surrogate, known=None, goal=goal)
        made = crafted(self.attack, there, draws, pushed=self.pushed)
        seen = problem.oracle.look(made.x, problem.goal, margin, Access.LABELS, draws.fold("judge"))
        _check_classes((made.logits, self.surrogate), (seen.logits, problem.oracle))
        found = judge_point(seen, made.x, problem)
        if self.pushed:
            found = _at_the_edge(found, made, problem, draws.fold("edge"))
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
        return of(self.attack, classes) + Passes(1 + self.pushed, 0)


def crafted(attack: Method, problem: Problem, draws: Draws, *, pushed: bool = False) -> SearchResult:
    """Return what an attack makes for other models to judge: its last point, or its smallest success.

    The first success would lie just beyond the boundary of the model at hand, and carry over to few others. `pushed`
    takes the point with the largest gap in place of the last one.
    """
    smallest = for_norm(attack, problem.threat.norm.name).keeps is Keeps.SMALLEST
    other = Keeps.WORST if pushed else Keeps.LAST
    return run(attack, problem, draws, keeps=Keeps.SMALLEST if smallest else other)


_NEAR = 0.999
"""From this share of the budget on, a point lies at its edge: rounding alone keeps it from there."""


def _at_the_edge(found: SearchResult, made: SearchResult, problem: Problem, draws: Draws) -> SearchResult:
    """Return the judgements with those of the successes inside the budget, stretched to its edge, where these break."""
    threat = problem.threat
    budget = torch.as_tensor(threat.eps, dtype=made.size.dtype, device=made.size.device).expand_as(made.size)
    inside = (made.size > 0) & (made.size < _NEAR * budget) & budget.isfinite()
    at = (made.success & inside & ~found.success).nonzero().squeeze(1)
    if not len(at):
        return found
    own, points = take(problem, at), made.x[at]
    longer = rows(budget[at] / made.size[at], points)
    edge = own.threat.snap(own.threat.project(own.x + (points - own.x) * longer, own.x), own.x)
    seen = own.oracle.look(edge, own.goal, margin, Access.LABELS, draws.take(at))
    return put(found, at, judge_point(seen, edge, own), Keeps.FIRST)


def _check_classes(*answers: tuple[Tensor, Oracle]) -> None:
    made, judged = (logits.shape[1] - getattr(oracle, "rejects", False) for logits, oracle in answers)
    if made != judged:
        raise BadInput(
            f"The surrogate answers with {made} classes, the model with {judged}. Take models of the same classes."
        )
