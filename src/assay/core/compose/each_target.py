"""Several targets, one after the other."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from assay.core.compose.merging import merged
from assay.core.compose.method import CountPasses, Method, Passes, check_count, stages
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.multi_label import MultiLabel
from assay.core.objective import margin
from assay.core.oracle import Access, Cost
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, bill, nothing, put
from assay.core.search import judge_point


@dataclasses.dataclass(frozen=True)
class EachTarget:
    """`attack` once towards each of the `k` likeliest wrong classes, most likely first. The goal is `Untargeted`.

    A model with fewer wrong classes than k has them all attacked.
    """

    attack: Method
    k: int

    lens: ClassVar[None] = None
    surrogate: ClassVar[None] = None
    first: ClassVar[None] = None  # it begins by ranking the classes

    def __post_init__(self) -> None:
        check_count(self.k, "EachTarget", "target")

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Rank the classes by one look at the image, and attack towards each. Raises `BadInput` for another goal."""
        goal, keeps = problem.goal, keeps or self.keeps
        if not isinstance(goal, Untargeted | MultiLabel):
            # the runs are judged as untargeted ones: any other goal would be forgotten
            kind = type(goal).__name__
            raise BadInput(f"EachTarget is an untargeted attack, the goal is {kind}. Use the attack alone.")
        found = nothing(problem.x)
        if not len(problem.x):
            return found
        seen = problem.seen_at_x
        if seen is None:
            seen = problem.oracle.look(problem.x, problem.goal, margin, Access.SCORES, draws.fold("rank"))
        else:
            seen = seen._replace(cost=Cost.nothing(problem.x))
        everyone = torch.arange(len(problem.x), device=problem.x.device)
        if keeps is Keeps.FIRST:
            # who is wrong before the attack is finished
            found = put(found, everyone, judge_point(seen, problem.x, problem), keeps)
        else:
            bill(found, everyone, seen)
        # what is known was said about another goal
        toward = [dataclasses.replace(problem, goal=one, known=None) for one in goal.toward_each(seen.logits, self.k)]
        return merged([(self.attack, one, draws.fold(f"target {j}")) for j, one in enumerate(toward)], found, keeps)

    def in_norm(self, norm: str) -> Method:
        """Return itself: each run asks the attack."""
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        """The attack."""
        return (self.attack,)

    def with_children(self, children: tuple[Method, ...]) -> EachTarget:
        """Return another attack towards as many targets."""
        return dataclasses.replace(self, attack=children[0])

    @property
    def keeps(self) -> Keeps:
        """As the attack."""
        return self.attack.keeps

    @property
    def access(self) -> Access:
        """The attack's, and the scores to rank classes by."""
        return max(Access.SCORES, self.attack.access)

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of the attack."""
        return stages(self.attack)

    def passes(self, of: CountPasses, classes: int | None) -> Passes:
        """Count every target, towards which there is one difference of logits, and the look that ranks them."""
        targets, between = (self.k, None) if classes is None else (min(self.k, classes - 1), 2)
        return Passes(1, 0) + of(self.attack, between).times(targets)
