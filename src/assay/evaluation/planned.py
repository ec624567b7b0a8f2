"""What is planned of a cell: its samples in chunks, and how many records each has. Readers need no more than that."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

SCHEMA_VERSION = 3
"""The version of the records that a cell has."""

CERTIFYING = "p"
"""How the digest of a cell that is a certificate begins (a proof): its records are of another kind."""


class InChunks(abc.ABC):
    """`n` samples at some `budgets`, cut into chunks of at most `chunk` samples."""

    n: int
    chunk: int

    @property
    @abc.abstractmethod
    def digest(self) -> str:
        """The cell's name."""

    @property
    @abc.abstractmethod
    def budgets(self) -> Sequence[Any]:
        """The budgets, smallest first."""

    @property
    def chunks(self) -> int:
        """How many chunks the cell's samples are cut into."""
        return math.ceil(self.n / self.chunk)

    def positions(self, chunk: int) -> range:
        """Return which samples belong to a chunk."""
        return range(chunk * self.chunk, min(self.n, (chunk + 1) * self.chunk))

    def rows(self, chunk: int) -> int:
        """Return how many records a chunk has: its samples times the budgets."""
        return self.rows_of(range(chunk, chunk + 1))

    def rows_of(self, chunks: range) -> int:
        """Return how many records chunks that follow each other have."""
        samples = self.positions(chunks[-1]).stop - self.positions(chunks[0]).start
        return samples * len(self.budgets)


@dataclasses.dataclass(frozen=True)
class Planned(InChunks):
    """A cell as a reader of its records needs it: its digest (`name`), and its budgets as they were written (`eps`)."""

    name: str
    n: int
    chunk: int
    eps: tuple[str, ...]

    @classmethod
    def of(cls, digest: str, plain: Mapping[str, Any]) -> Planned:
        """Return what the manifest keeps of a cell (`plain`) under its digest."""
        return cls(digest, int(plain["n"]), int(plain["chunk"]), tuple(map(str, plain["eps"])))

    @property
    def digest(self) -> str:
        """The cell's name."""
        return self.name

    @property
    def budgets(self) -> Sequence[str]:
        """The budgets, smallest first."""
        return self.eps
