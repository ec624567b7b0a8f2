"""A composition that the library does not know: what one file outside it needs in order to work everywhere."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from assay.core.compose import CountPasses, Method, Passes, run, stages
from assay.core.draws import Draws
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.search import Keeps, SearchResult, nothing, put
from assay.core.tensors import take


@dataclasses.dataclass(frozen=True)
class ByTurns:
    """The best of two attacks by turns: `one`, then `other` on what still stands, for some `rounds`."""

    one: Method
    other: Method
    rounds: int = 2

    keeps: ClassVar[Keeps] = Keeps.FIRST
    lens: ClassVar[None] = None
    surrogate: ClassVar[None] = None

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        keeps, found = keeps or self.keeps, nothing(problem.x)
        merge = Keeps.WORST if keeps is Keeps.LAST else keeps
        for turn in range(2 * self.rounds):
            standing = ~found.success if keeps is Keeps.FIRST else found.success | True
            left = standing.nonzero().squeeze(1)
            if not len(left):
                break
            # the first turn is the plain attack's own
            own = draws.take(left).fold(f"turn {turn}") if turn else draws.take(left)
            new = run(self.children[turn % 2], take(problem, left), own, keeps=keeps)
            before = len(stages(self.one)) if turn % 2 else 0
            found = put(found, left, new._replace(part=new.part + before), merge)
        return found

    def in_norm(self, norm: str) -> ByTurns:
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        return (self.one, self.other)

    def with_children(self, children: tuple[Method, ...]) -> ByTurns:
        return dataclasses.replace(self, one=children[0], other=children[1])

    @property
    def access(self) -> Access:
        return max(self.one.access, self.other.access)

    @property
    def stages(self) -> tuple[str, ...]:
        return (*stages(self.one), *stages(self.other))

    def passes(self, of: CountPasses, classes: int | None) -> Passes:
        return (of(self.one, classes) + of(self.other, classes)).times(self.rounds)

    @property
    def first(self) -> Method:
        return self.one
