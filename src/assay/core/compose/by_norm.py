"""Another method for each norm."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from assay.core.compose.method import CountPasses, Method, Passes, check_count, for_norm, run, stages
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult


@dataclasses.dataclass(frozen=True)
class ByNorm:
    """Another method for each norm, as `(name, method)` pairs: a threat is attacked with that of its norm."""

    choices: tuple[tuple[str, Method], ...]

    first: ClassVar[None] = None  # which attack it is depends on the norm
    lens: ClassVar[None] = None
    surrogate: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_count(len(self.choices), "ByNorm", "choice")

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Run the method of the threat's norm."""
        return run(self.in_norm(problem.threat.norm.name), problem, draws, keeps=keeps)

    def in_norm(self, norm: str) -> Method:
        """Return the method of a norm. Raises `BadInput` where there is none."""
        choices = dict(self.choices)
        if norm not in choices:
            raise BadInput(f"This attack works in {', '.join(choices)}, not in {norm}.")
        return for_norm(choices[norm], norm)

    @property
    def children(self) -> tuple[Method, ...]:
        """The methods of all norms."""
        return tuple(method for _, method in self.choices)

    def with_children(self, children: tuple[Method, ...]) -> ByNorm:
        """Return other methods for the same norms."""
        return ByNorm(tuple((norm, one) for (norm, _), one in zip(self.choices, children, strict=True)))

    @property
    def keeps(self) -> Keeps:
        """As the first method, and every other."""
        return self.choices[0][1].keeps

    @property
    def access(self) -> Access:
        """The most that a method needs."""
        return max(method.access for _, method in self.choices)

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of the first method."""
        return stages(self.choices[0][1])

    def passes(self, of: CountPasses, classes: int | None) -> Passes:
        """Count the most of any norm."""
        each = [of(method, classes) for _, method in self.choices]
        return Passes(max(one.forwards for one in each), max(one.backwards for one in each))
