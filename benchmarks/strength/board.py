"""What the board is made of: contenders, and the rows they meet in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

OURS = "assay"

# options that tell contenders of one row apart, as the board writes them
SHOWN = {
    **dict.fromkeys(("steps", "num_steps", "n_iter", "max_iter", "max_iterations"), "steps"),
    **dict.fromkeys(("max_stepsize", "stepsize", "initial_stepsize", "learning_rate", "lr", "\u03b1_init"), "rate"),
}

BUDGET = "budget"
"""How many images withstand a fixed budget."""
MINIMUM = "minimum"
"""How small the perturbations are."""
QUERIES = "queries"
"""How many queries the first success inside a fixed budget takes, image by image."""
DISTANCE = "distance"
"""How small the perturbations are after a fixed number of queries, image by image."""
TRANSFER = "transfer"
"""How many images withstand, on another network, what was made on the surrogate."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """One attack of one library with its options, which are the library's own words.

    `images` is less than the row's where the library is too slow for this machine.
    """

    library: str
    call: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images: int | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """How the board calls it."""
        said = [f"{word} {self.options[key]}" for key, word in SHOWN.items() if key in self.options]
        said += [f"{self.images} images"] if self.images else []
        return f"{self.library} {self.call}" + (f" ({', '.join(said)})" if said else "")

    def under(self, seed: int) -> Contender:
        """Return the contender under another seed; the authors' AutoAttack sets its own, whatever the caller's."""
        own = {"seed": seed} if seed and self.library == "pyautoattack" else {}
        return dataclasses.replace(self, seed=seed, options={**self.options, **own})


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison. `limit` is the queries an image may cost, `allowance` the images that ours may leave more.

    `share` bounds our passes against those of the strongest reference; `surrogate` is where a transfer attack looks.
    Figures are means over `seeds` runs of every contender: what one random start more or less decides is no strength.
    """

    name: str
    kind: str
    subject: str
    norm: str
    ours: Contender
    peers: tuple[Contender, ...]
    images: int = 200
    eps: float | None = None
    limit: int | None = None
    allowance: int = 0
    share: float | None = None
    surrogate: str | None = None
    reportable: bool = True
    seeds: int = 1

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """Ours first."""
        return (self.ours, *self.peers)


@dataclasses.dataclass(frozen=True)
class Task:
    """One contender of one row: all that a fresh process must know. Plain values."""

    kind: str
    subject: str
    norm: str
    images: int
    eps: float | None
    limit: int | None
    surrogate: str | None
    contender: Contender

    @classmethod
    def of(cls, row: Row, contender: Contender, images: int | None = None) -> Task:
        """Return the task of a contender; `images` bounds the row's number."""
        count = min(one for one in (row.images, contender.images, images) if one is not None)
        return cls(row.kind, row.subject, row.norm, count, row.eps, row.limit, row.surrogate, contender)

    def plain(self) -> dict[str, Any]:
        """Return it as a mapping of plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Task:
        """Undo `plain`."""
        return cls(**{**plain, "contender": Contender(**plain["contender"])})
