"""Pairs: the accuracy that attacks leave a model, and that of its judge on the images made for the model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.evaluation.analysis.score import WORST_CASE
from assay.evaluation.records.schema import UNBROKEN, UNCOUNTED, WRONG_BEFORE
from assay.evaluation.study.attacks import UNATTACKED, entry_of
from assay.statistics import mcnemar_p, paired_difference, wilson

PAIR_COLUMNS = ("cell", "eps", "eps_written", "sample_id", "status")

_SURROGATE = ("surrogate", "surrogate_outputs", "surrogate_digest", "pushed")
_SAME = ("fingerprint", "ids_digest", "threat", "unit", "question", "goal", "order", "seed", "mask_digest")


@dataclasses.dataclass(frozen=True)
class Pair:
    """Model and judge on the same `n` images at one budget; images that one of the two could not judge are left out.

    `model_right` and `judge_right` are right before any attack. After it, `both` are still right on both sides,
    `only_model` and `only_judge` on one alone; an attacked image that a side refuses counts as right there. Of those
    that both had right before, the attack `broke` so many on the model, and `carried` of these on the judge too.
    `p_value` is that of the exact McNemar test, `low` and `high` Tango's interval of the difference, at 95 %.
    """

    eps: float
    eps_written: str
    n: int
    model_right: int
    judge_right: int
    both: int
    only_model: int
    only_judge: int
    broke: int
    carried: int

    @property
    def model_accuracy(self) -> float:
        """The share that the model still has right under the attack."""
        return (self.both + self.only_model) / self.n if self.n else math.nan

    @property
    def judge_accuracy(self) -> float:
        """The share that the judge has right of the images made for the model."""
        return (self.both + self.only_judge) / self.n if self.n else math.nan

    @property
    def model_interval(self) -> tuple[float, float]:
        """Wilson's interval of the model's accuracy."""
        return wilson(self.both + self.only_model, self.n)

    @property
    def judge_interval(self) -> tuple[float, float]:
        """Wilson's interval of the judge's accuracy."""
        return wilson(self.both + self.only_judge, self.n)

    @property
    def difference(self) -> float:
        """The judge's accuracy minus the model's."""
        return (self.only_judge - self.only_model) / self.n if self.n else math.nan

    @property
    def low(self) -> float:
        """The lower end of the difference."""
        return paired_difference(self.only_judge, self.only_model, self.n)[0]

    @property
    def high(self) -> float:
        """The upper end of the difference."""
        return paired_difference(self.only_judge, self.only_model, self.n)[1]

    @property
    def p_value(self) -> float:
        """How likely so uneven a split of the discordant images is where model and judge are equally robust."""
        return mcnemar_p(self.only_judge, self.only_model)


@dataclasses.dataclass(frozen=True)
class PairTable:
    """The pairs of one model, judge, data set, threat and attack, smallest budget first.

    `attack` is the model's label of it, or the worst case over several, image by image. `cells` are the digests behind
    it: those of the model, then those of the judge.
    """

    model: str
    judge: str
    data: str
    threat: str
    unit: str
    question: str
    goal: str
    attack: str
    pairs: tuple[Pair, ...]
    cells: tuple[tuple[str, ...], tuple[str, ...]]


def paired_cells(cells: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return which cells make a pair, by digest: the model's, and that of the judge on images made for the model."""
    judges = {digest: cell for digest, cell in cells.items() if cell["specs"].get("model", {}).get("like")}
    if not judges:
        return []
    models: dict[str, str] = {}
    for digest, cell in cells.items():
        if digest not in judges and cell["specs"]["attack"]["attack"] != UNATTACKED:
            models.setdefault(_key(cell, cell["specs"]["model"]), digest)
    found = []
    for digest, cell in judges.items():
        attack = cell["specs"]["attack"]
        if attack["attack"] == UNATTACKED:
            continue
        # what a file holds is made for no model
        by_file = entry_of(attack["attack"]).file
        maker = cell["specs"]["model"]["like"] if by_file else attack.get("surrogate")
        named = {"model": maker, "outputs": attack.get("surrogate_outputs", "logits")}
        own = models.get(_key(cell, named)) if maker else None
        if own is not None:
            found.append((own, digest))
    return found


def _key(cell: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    attack = {name: value for name, value in cell["specs"]["attack"].items() if name not in _SURROGATE}
    same = {name: cell.get(name) for name in _SAME}
    return repr((model["model"], model.get("outputs", "logits"), sorted(attack.items()), cell["eps"], same))


@dataclasses.dataclass(frozen=True)
class _Side:
    # of one cell at one budget: whether samples were right before and after; those that no number counts are not there
    right: dict[str, bool]
    left: dict[str, bool]


_Sides = dict[tuple[str, float], _Side]


def pair_tables(
    records: pa.Table, cells: Mapping[str, Mapping[str, Any]], pairs: Sequence[tuple[str, str]]
) -> list[PairTable]:
    """Return a table for each of the `pairs` of cells, and the worst case over those that differ in the attack alone.

    `records` are those of all these cells (`PAIR_COLUMNS`); a budget whose records are not all there yet counts the
    images that both sides have.
    """
    sides, written = _read(records)
    alike: dict[str, list[tuple[str, str]]] = {}
    for own, judge in pairs:
        told = {name: cells[own].get(name) for name in ("model", "data", *_SAME)}
        alike.setdefault(repr((told, cells[judge]["model"])), []).append((own, judge))
    found = []
    for group in alike.values():
        first, judge_cell = cells[group[0][0]], cells[group[0][1]]
        named = {name: str(first[name]) for name in ("model", "data", "threat", "unit", "question", "goal")}
        several = [(f"{WORST_CASE} of {len(group)}", group)] if len(group) > 1 else []
        for attack, some in [*((cells[one[0]]["attack"], [one]) for one in group), *several]:
            digests = tuple(one for one, _ in some), tuple(one for _, one in some)
            paired = _paired(some, sides, written)
            found.append(PairTable(**named, judge=judge_cell["model"], attack=attack, pairs=paired, cells=digests))
    return [table for table in found if table.pairs]


def _read(records: pa.Table) -> tuple[_Sides, dict[float, str]]:
    sides: _Sides = {}
    written: dict[float, str] = {}
    for row in records.select(list(PAIR_COLUMNS)).to_pylist():
        side = sides.setdefault((row["cell"], row["eps"]), _Side({}, {}))
        written.setdefault(row["eps"], row["eps_written"])
        if row["status"] not in UNCOUNTED:
            side.right[row["sample_id"]] = row["status"] not in WRONG_BEFORE
            side.left[row["sample_id"]] = row["status"] in UNBROKEN
    return sides, written


def _paired(group: Sequence[tuple[str, str]], sides: _Sides, written: Mapping[float, str]) -> tuple[Pair, ...]:
    # at the budgets that every cell of the group has
    budgets = [{eps for cell, eps in sides if cell == digest} for pair in group for digest in pair]
    shared = sorted(set.intersection(*budgets)) if budgets else []
    return tuple(
        pair
        for eps in shared
        if (pair := _pair(eps, written[eps], [[sides[one[side], eps] for one in group] for side in (0, 1)])).n
    )


def _pair(eps: float, written: str, sides: Sequence[Sequence[_Side]]) -> Pair:
    known = set.intersection(*(set(one.left) for side in sides for one in side))
    right, left = ([_all(side, known, name) for side in sides] for name in ("right", "left"))
    own, judge = left
    fair = right[0] & right[1]
    broke = fair - own
    return Pair(
        eps, written, len(known), len(right[0]), len(right[1]), len(own & judge), len(own - judge), len(judge - own),
        len(broke), len(broke - judge),
    )  # fmt: skip


def _all(cells: Iterable[_Side], known: set[str], name: str) -> set[str]:
    # what held in every cell: of several attacks the worst outcome counts
    each = [getattr(one, name) for one in cells]
    return {sample for sample in known if all(one[sample] for one in each)}


__all__ = ["PAIR_COLUMNS", "Pair", "PairTable", "pair_tables", "paired_cells"]
