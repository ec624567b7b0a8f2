"""Several random starts."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from assay.core.compose.merging import merged
from assay.core.compose.method import CountPasses, Method, Passes, check_count, stages
from assay.core.draws import Draws
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, nothing


@dataclasses.dataclass(frozen=True)
class Restarts:
    """`attack` from `n` random starts; each later one meets only the samples still standing."""

    attack: Method
    n: int

    lens: ClassVar[None] = None
    surrogate: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_count(self.n, "Restarts", "start")

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Start with the plain attack's own start: one more can only add."""
        runs = [(self.attack, problem, draws.fold(f"restart {i}") if i else draws) for i in range(self.n)]
        return merged(runs, nothing(problem.x), keeps or self.keeps)

    def in_norm(self, norm: str) -> Method:
        """Return itself: each run asks the attack."""
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        """The attack."""
        return (self.attack,)

    def with_children(self, children: tuple[Method, ...]) -> Restarts:
        """Return as many starts of another attack."""
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
        """Count every start."""
        return of(self.attack, classes).times(self.n)

    @property
    def first(self) -> Method:
        """The attack: its first start comes first."""
        return self.attack
