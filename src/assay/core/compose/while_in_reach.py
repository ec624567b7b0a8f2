"""More starts, for the samples where more starts may still succeed."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from assay.core.compose.merging import merged
from assay.core.compose.method import CountPasses, Method, Passes, check_count, run, stages
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, nothing, put
from assay.core.tensors import take


@dataclasses.dataclass(frozen=True)
class WhileInReach:
    """`attack` from `least` random starts, and from up to `most` where the goal is in reach of another one.

    In reach is a sample whose starts have come as near to the goal as they differ among themselves: what is left, the
    gap of the best of them, is no more than the gap between the best and the worst. So a sample decides by what its own
    starts have found, at any scale of the logits, and alike in every chunk.
    """

    attack: Method
    least: int
    most: int

    lens: ClassVar[None] = None
    surrogate: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_count(self.least, "WhileInReach", "start")
        if self.least < 2 or self.most < self.least:
            told = f"at least {self.least} and at most {self.most}"
            raise BadInput(f"WhileInReach with {told} starts; expected 2 or more, which are compared, and no fewer.")

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Make the starts one after the other, each on the samples still standing, later ones on those in reach."""
        keeps = keeps or self.keeps
        runs = [(self.attack, problem, draws.fold(f"restart {i}") if i else draws) for i in range(self.most)]
        if keeps is not Keeps.FIRST:
            # who looks for more than a success goes on everywhere
            return merged(runs, nothing(problem.x), keeps)
        found, worst = nothing(problem.x), torch.full_like(nothing(problem.x).gap, torch.inf)
        for i, (method, whole, own) in enumerate(runs):
            left = self._standing(found, worst, i).nonzero().squeeze(1)
            if not len(left):
                break
            new = run(method, take(whole, left), own.take(left), keeps=keeps)
            worst = worst.index_put((left,), torch.minimum(worst[left], new.gap))
            found = put(found, left, new, keeps)
        return found

    def _standing(self, found: SearchResult, worst: Tensor, start: int) -> Tensor:
        if start < self.least:
            return ~found.success
        return ~found.success & (-found.gap <= found.gap - worst)

    def in_norm(self, norm: str) -> Method:
        """Return itself: each run asks the attack."""
        return self

    @property
    def children(self) -> tuple[Method, ...]:
        """The attack."""
        return (self.attack,)

    def with_children(self, children: tuple[Method, ...]) -> WhileInReach:
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
        """Count the most starts: a sample that they never bring into reach has `least`."""
        return of(self.attack, classes).times(self.most)

    @property
    def first(self) -> Method:
        """The attack: its first start comes first."""
        return self.attack
