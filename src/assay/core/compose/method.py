"""Attacks and compositions alike: the protocol that every composition keeps, and what can be asked of either.

A composition is one file: a frozen dataclass with the members of `Composition`. Whatever walks over methods goes by
these members alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import torch

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import Objective
from assay.core.oracle import Access, Oracle
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult
from assay.core.search import Attack, gradient_looks, search

if TYPE_CHECKING:
    from typing_extensions import TypeIs


@dataclasses.dataclass(frozen=True)
class Passes:
    """Forward and backward passes: an upper bound, since a sample that is broken early stops."""

    forwards: int
    backwards: int

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forwards + other.forwards, self.backwards + other.backwards)

    @property
    def weight(self) -> int:
        """The passes as one number for estimating time: a backward costs about as much as a forward, or more."""
        return self.forwards + 2 * self.backwards

    def times(self, n: int) -> Passes:
        """Return the passes of `n` samples, or of `n` runs."""
        return Passes(self.forwards * n, self.backwards * n)


class Lens(Protocol):
    """A way of seeing the model: an oracle around an oracle, as a frozen dataclass."""

    @property
    def access(self) -> Access:
        """What it needs to see of the model to answer a gradient look."""

    @property
    def passes(self) -> tuple[int, int]:
        """Forwards and backwards per row of one gradient look."""

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle seen through the lens."""


@runtime_checkable
class Composition(Protocol):
    """Several attacks, several starts or several targets as one method: a frozen dataclass around its children."""

    @property
    def children(self) -> tuple[Method, ...]:
        """The methods that it is made of."""

    def with_children(self, children: tuple[Method, ...], /) -> Method:
        """Return the same composition of other methods, as many as `children`."""

    def run(self, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
        """Attack; the same promises as `search`. `keeps` is which point counts, by default `self.keeps`."""

    def in_norm(self, norm: str, /) -> Method:
        """Return what the method is in a norm. Raises `BadInput` where it has nothing for it."""

    @property
    def keeps(self) -> Keeps:
        """Which point is the result, unless the caller says otherwise."""

    @property
    def access(self) -> Access:
        """What it needs to see of the model, all its children together."""

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of its attacks, in the order in which `SearchResult.part` counts them."""

    def passes(self, of: CountPasses, classes: int | None, /) -> Passes:
        """Return the most passes of one run on a sample whose image the model has been asked about.

        `of(child, classes)` are those of one run of a child; `classes` is how many the model has, where that is known.
        """

    @property
    def first(self) -> Method | None:
        """The child whose first question is the first of all; None where something else is asked before."""

    @property
    def lens(self) -> Lens | None:
        """What the children see the model through; None where they see it as it is."""

    @property
    def surrogate(self) -> Oracle | None:
        """What the children attack in place of the model; None where they attack the model itself."""


Method: TypeAlias = "Attack | Composition"
CountPasses: TypeAlias = "Callable[[Method, int | None], Passes]"


def is_attack(method: Method) -> TypeIs[Attack]:
    """Whether a method is a single attack: something that moves by `init` and `step`."""
    return callable(getattr(method, "init", None)) and callable(getattr(method, "step", None))


def run(method: Method, problem: Problem, draws: Draws, *, keeps: Keeps | None = None) -> SearchResult:
    """Run an attack or a composition; the same promises as `search`."""
    method = for_norm(method, problem.threat.norm.name)
    if is_attack(method):
        return search(method, problem, draws, keeps=keeps)
    return method.run(problem, draws, keeps)


def for_norm(method: Method, norm: str) -> Method:
    """Return what a method is in a norm. Raises `BadInput` where it has nothing for it."""
    return method if is_attack(method) else method.in_norm(norm)


def stages(method: Method) -> tuple[str, ...]:
    """Return the names of a method's attacks, in the order in which `SearchResult.part` counts them."""
    return (type(method).__name__.lower(),) if is_attack(method) else method.stages


def first_attack(method: Method) -> Attack | None:
    """Return the attack that a method asks with first, or None where it begins with a question of its own."""
    while not is_attack(method):
        if method.first is None:
            return None
        method = method.first
    return method


def most_passes(method: Method, norm: str, classes: int | None = None) -> Passes:
    """Return the most passes of one run in a norm, on a sample whose image the model has been asked about.

    Where `classes` is not known, an objective of one number per class counts as one of a single number.
    """
    method = for_norm(method, norm)
    if not is_attack(method):
        return method.passes(lambda child, k: most_passes(child, norm, k), classes)
    looks = gradient_looks(method)
    if not looks:
        return Passes(method.steps + 1, 0)
    gradients = 1 if classes is None else math.prod(numbers_of(method.objective, classes))
    return Passes(method.steps + 1, looks * gradients)


def numbers_of(objective: Objective, classes: int) -> tuple[int, ...]:
    """Return `()` for an objective of one number per image, `(R,)` for one of several, each with its own gradient."""
    loss = objective(torch.zeros(1, classes), Untargeted(torch.zeros(1, dtype=torch.int64)))
    return tuple(loss.shape[1:])


def check_count(n: int, kind: str, what: str) -> None:
    """Raise `BadInput` for none: of no attack at all every sample would be a survivor."""
    if n < 1:
        raise BadInput(f"{kind} with {n} {what}s attacks nothing; expected 1 {what} or more.")
