"""The bracket: what is certified bounds the truth from below, what attacks left bounds it from above.

certified <= truth <= robust, image by image. An image that is certified and was broken contradicts one of the two.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from assay.evaluation.records.certificates import FAILED
from assay.evaluation.records.schema import BROKEN, CERTIFIED, UNBROKEN, UNCOUNTED
from assay.statistics import clopper_pearson, wilson
from assay.wording import measure

CERTIFICATE_COLUMNS = (
    "model", "data", "certificate", "threat", "unit", "eps", "eps_written", "alpha", "sample_id", "answer", "certified",
)  # fmt: skip
ATTACK_COLUMNS = ("cell", "model", "data", "attack", "threat", "unit", "eps", "eps_written", "sample_id", "status")


@dataclasses.dataclass(frozen=True)
class Contradiction:
    """A sample that is certified and was broken: one of the two is wrong. `certain`: the certificate is a proof."""

    sample: str
    certificate: str
    attack: str
    cell: str
    certain: bool


@dataclasses.dataclass(frozen=True)
class Bracket:
    """What is known about `n` images at one budget: `certified` of them are proved, `survived` withstood every attack.

    `survived` is None where nothing was attacked. `open` are those that are neither proved nor broken. `low` is the
    lower end of the exact interval of the certified share, `high` the upper end of Wilson's of the robust one: each at
    97.5 %, so that the truth of the whole population lies between them in 95 of 100 cases.
    """

    eps: float
    eps_written: str
    n: int
    certified: int
    survived: int | None
    contradictions: tuple[Contradiction, ...] = ()

    @property
    def certified_accuracy(self) -> float:
        """The share that is right and proved to stay so, out of all."""
        return self.certified / self.n if self.n else math.nan

    @property
    def robust_accuracy(self) -> float:
        """The share that withstood every attack; NaN where nothing was attacked."""
        return self.survived / self.n if self.n and self.survived is not None else math.nan

    @property
    def open(self) -> int | None:
        """How many images are neither proved nor broken."""
        return None if self.survived is None else self.survived - self.certified + len(self.contradictions)

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return clopper_pearson(self.certified, self.n)[0]

    @property
    def high(self) -> float:
        """The upper end of the interval; 1 where nothing was attacked."""
        return 1.0 if self.survived is None else wilson(self.survived, self.n)[1]


@dataclasses.dataclass(frozen=True)
class BracketTable:
    """The brackets of one model on one data set under one threat, smallest budget first.

    `certificates` and `attacks` are the methods' labels. `alpha` is the probability that the statement about an image
    is false, all methods together: 0 where all are proofs. `wording` is what to call the share that attacks left.
    """

    model: str
    data: str
    threat: str
    unit: str
    brackets: tuple[Bracket, ...]
    certificates: tuple[str, ...]
    attacks: tuple[str, ...]
    alpha: float
    wording: str = measure("gradient", None)

    @property
    def contradictions(self) -> tuple[Contradiction, ...]:
        """What is both certified and broken, at any budget."""
        return tuple(one for bracket in self.brackets for one in bracket.contradictions)

    @property
    def certain_contradictions(self) -> tuple[Contradiction, ...]:
        """Those that no chance explains: a proof was broken, or more statements than `alpha` lets fail.

        Of statements that each fail with probability `alpha`, so many fail by chance in one of 1,000 cases at most.
        """
        proved = tuple(one for one in self.contradictions if one.certain)
        excess = [one for one in self.brackets if len(one.contradictions) > allowed(one.certified, self.alpha)]
        return proved or tuple(one for bracket in excess for one in bracket.contradictions)


def allowed(statements: int, alpha: float) -> int:
    """Return how many of some statements, each false with probability `alpha`, are false by chance: the .999 quantile.

    Four of 500 at alpha .001.
    """
    from scipy.stats import binom

    return int(binom.ppf(0.999, statements, alpha)) if alpha > 0 else 0


_AT_ONCE = 4096


@dataclasses.dataclass(slots=True)
class _Sample:
    counted: bool = True
    broken: tuple[str, str] | None = None
    withstood: bool = False
    attacked: bool = False
    certified: str | None = None
    certain: bool = False


_Key = tuple[str, str, str, str]
_Images = dict[tuple[float, str], dict[str, _Sample]]


def bracket_tables(
    attacked: pa.Table | Iterable[pa.Table], certified: pa.Table | Iterable[pa.Table]
) -> list[BracketTable]:
    """Return a table for each model, data set and threat that something is certified of.

    `attacked` are the records of untargeted worst cases (`ATTACK_COLUMNS`), with the status `certified` where a bound
    went before; `certified` those of certificates (`CERTIFICATE_COLUMNS`); each a table, or pieces of one.
    """
    images: dict[_Key, _Images] = {}
    methods: dict[_Key, dict[str, float]] = {}
    attacks: dict[_Key, dict[str, None]] = {}
    for row in _rows(certified):
        key = _key(row)
        methods.setdefault(key, {})[row["certificate"]] = row["alpha"]
        sample = _sample(images, key, row)
        sample.counted = sample.counted and row["answer"] != FAILED
        if row["certified"]:
            certain = row["alpha"] == 0
            if sample.certified is None or (certain and not sample.certain):
                sample.certified, sample.certain = row["certificate"], certain
    for row in _rows(attacked):
        key = _key(row)
        sample, status = _sample(images, key, row), row["status"]
        sample.attacked = True
        attacks.setdefault(key, {})[row["attack"]] = None
        sample.counted = sample.counted and status not in UNCOUNTED
        if status == BROKEN:
            sample.broken = sample.broken or (row["attack"], row["cell"])
        sample.withstood = sample.withstood or status in UNBROKEN
        if status == CERTIFIED:
            methods.setdefault(key, {})[BEFORE] = 0.0
            sample.certified, sample.certain = sample.certified or BEFORE, True
    return [
        BracketTable(*key, _brackets(images[key]), tuple(found), tuple(attacks.get(key, ())), sum(found.values()))
        for key, found in methods.items()
    ]


BEFORE = "a bound before the attacks"
"""The certificate of images that `certify: first` proved."""


def _rows(records: pa.Table | Iterable[pa.Table]) -> Iterator[dict[str, Any]]:
    for piece in [records] if isinstance(records, pa.Table) else records:
        for start in range(0, piece.num_rows, _AT_ONCE):
            yield from piece.slice(start, _AT_ONCE).to_pylist()


def _key(row: dict[str, object]) -> _Key:
    return str(row["model"]), str(row["data"]), str(row["threat"]), str(row["unit"])


def _sample(images: dict[_Key, _Images], key: _Key, row: dict[str, object]) -> _Sample:
    budget = (float(row["eps"]), str(row["eps_written"]))  # type: ignore[arg-type]  # a column of numbers
    return images.setdefault(key, {}).setdefault(budget, {}).setdefault(str(row["sample_id"]), _Sample())


def _brackets(images: _Images) -> tuple[Bracket, ...]:
    return tuple(_bracket(*budget, images[budget]) for budget in sorted(images))


def _bracket(eps: float, written: str, samples: dict[str, _Sample]) -> Bracket:
    counted = [(name, one) for name, one in samples.items() if one.counted]
    # where some images were attacked and others only certified, both sides are about the same ones
    whole = [(name, one) for name, one in counted if one.attacked] or counted
    attacked = any(one.attacked for _, one in whole)
    found = tuple(
        Contradiction(name, one.certified, *one.broken, one.certain)
        for name, one in whole
        if one.certified is not None and one.broken is not None
    )
    survived = sum(one.withstood and one.broken is None for _, one in whole) if attacked else None
    return Bracket(eps, written, len(whole), _count(one for _, one in whole), survived, found)


def _count(samples: Iterable[_Sample]) -> int:
    return sum(one.certified is not None for one in samples)


def in_words(found: Sequence[Contradiction]) -> str:
    """Say which images contradict which certificates."""
    first = found[0]
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{first.sample!r} is certified by {first.certificate} and broken by {first.attack}{more}"


__all__ = ["ATTACK_COLUMNS", "BEFORE", "CERTIFICATE_COLUMNS", "Bracket", "BracketTable", "Contradiction", "allowed",
           "bracket_tables", "in_words"]  # fmt: skip
