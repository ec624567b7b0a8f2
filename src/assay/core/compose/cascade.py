"""One method after the other."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from assay.core.compose.merging import merged
from assay.core.compose.method import CountPasses, Method, Passes, check_count, stages
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, nothing


@dataclasses.dataclass(frozen=True)
class Cascade:
    """One method after the other, each on the samples still standing; `names` are the parts' in reports."""

    parts: tuple[Method, ...]
    names: tuple[str, ...] = ()

    keeps: ClassVar[Keeps] = Keeps.FIRST
    lens: ClassVar[None] = None
    surrogate: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_count(len(self.parts), "Cascade", "part")
        if self.names and len(self.names) != len(self.parts):
            raise BadInput(f"Cascade has {len(self.parts)} parts and {len(self.names)} names; expected one each.")

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Run part by part."""
        runs = [(part, problem, draws.fold(f"part {i}")) for i, part in enumerate(self.parts)]
        return merged(runs, nothing(problem.x), keeps or self.keeps, counted=True)

    def in_norm(self, norm: str) -> Method:
        """Return itself: each run asks the part."""
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        """The parts."""
        return self.parts

    def with_children(self, children: tuple[Method, ...]) -> Cascade:
        """Return other parts under the same names."""
        return dataclasses.replace(self, parts=children)

    @property
    def access(self) -> Access:
        """The most that a part needs."""
        return max(part.access for part in self.parts)

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of the parts; a part of one attack goes by the part's name."""
        leaves = [stages(part) for part in self.parts]
        named = [(name,) if len(own) == 1 else own for name, own in zip(self.names, leaves, strict=False)]
        return tuple(name for own in named or leaves for name in own)

    def passes(self, of: CountPasses, classes: int | None) -> Passes:
        """Count every part."""
        return sum((of(part, classes) for part in self.parts), Passes(0, 0))

    @property
    def first(self) -> Method:
        """The first part."""
        return self.parts[0]
