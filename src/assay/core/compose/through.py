"""An attack behind a lens."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from assay.core.compose.method import CountPasses, Lens, Method, Passes, run, stages
from assay.core.draws import Draws
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult


@dataclasses.dataclass(frozen=True)
class Through:
    """`attack`, seeing the model through `lens`: gradients averaged, estimated or taken elsewhere."""

    lens: Lens
    attack: Method

    first: ClassVar[None] = None  # nobody asks the model as it is
    surrogate: ClassVar[None] = None

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Run the attack on the oracle behind the lens."""
        # what is known was seen without the lens
        seen_so = dataclasses.replace(problem, oracle=self.lens(problem.oracle), known=None)
        return run(self.attack, seen_so, draws, keeps=keeps)

    def in_norm(self, norm: str) -> Method:
        """Return itself: the run asks the attack."""
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        """The attack."""
        return (self.attack,)

    def with_children(self, children: tuple[Method, ...]) -> Through:
        """Return another attack behind the same lens."""
        return dataclasses.replace(self, attack=children[0])

    @property
    def keeps(self) -> Keeps:
        """As the attack."""
        return self.attack.keeps

    @property
    def access(self) -> Access:
        """As the attack; the lens's where the attack asks for gradients."""
        return self.lens.access if self.attack.access is Access.GRADIENT else self.attack.access

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of the attack."""
        return stages(self.attack)

    def passes(self, of: CountPasses, classes: int | None) -> Passes:
        """Count the lens's passes for every look with a gradient; what is left are the looks that judge."""
        inner = of(self.attack, classes)
        if self.attack.access is not Access.GRADIENT:
            return inner
        forwards, backwards = self.lens.passes
        judged = max(0, inner.forwards - inner.backwards)
        return Passes(judged + (inner.forwards - judged) * forwards, inner.backwards * backwards)
