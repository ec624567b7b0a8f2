"""Pairs: the accuracy that attacks leave a model, and that of its judge on the images made for the model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.evaluation.analysis.tallies import groups, taken, texts
from assay.evaluation.analysis.worst import WORST_CASE
from assay.evaluation.records.schema import STATUSES, UNBROKEN, UNCOUNTED, WRONG_BEFORE
from assay.statistics import mcnemar_p, paired_difference, wilson
from assay.vocabulary import UNATTACKED

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
        maker = cell["specs"]["model"]["like"] if "file" in attack else attack.get("surrogate")
        named = {"model": maker, "outputs": attack.get("surrogate_outputs", "logits")}
        own = models.get(_key(cell, named)) if maker else None
        if own is not None:
            found.append((own, digest))
    return found


def _key(cell: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    attack = {name: value for name, value in cell["specs"]["attack"].items() if name not in _SURROGATE}
    same = {name: cell.get(name) for name in _SAME}
    return repr((model["model"], model.get("outputs", "logits"), sorted(attack.items()), cell["eps"], same))


# of one cell at one budget, a byte per sample: 0 where no number counts it, else whether it was right before and after
_COUNTED, _RIGHT, _LEFT = 1, 2, 4
_CODES = {
    status: (0 if status in UNCOUNTED else _COUNTED)
    | (0 if status in (*UNCOUNTED, *WRONG_BEFORE) else _RIGHT)
    | (_LEFT if status in UNBROKEN else 0)
    for status in STATUSES
}
_Side = NDArray[np.uint8]
_Sides = dict[tuple[str, float], _Side]


def pair_tables(
    records: pa.Table | Iterable[pa.Table], cells: Mapping[str, Mapping[str, Any]], pairs: Sequence[tuple[str, str]]
) -> list[PairTable]:
    """Return a table for each of the `pairs` of cells, and the worst case over those that differ in the attack alone.

    `records` are those of all these cells (`PAIR_COLUMNS`), a table or pieces of one; a budget whose records are not
    all there yet counts the images that both sides have.
    """
    sides, written = _read([records] if isinstance(records, pa.Table) else records)
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


def _read(pieces: Iterable[pa.Table]) -> tuple[_Sides, dict[float, str]]:
    sides: _Sides = {}
    written: dict[float, str] = {}
    places: dict[str, int] = {}
    for piece in pieces:
        if not piece.num_rows:
            continue
        group, first = groups(piece, ("cell", "eps"))
        (at, ids), (status, words) = texts(piece, "sample_id"), texts(piece, "status")
        sample = np.array([places.setdefault(one, len(places)) for one in ids], np.int64)[at]
        told = np.array([_CODES[word] for word in words], np.uint8)[status]
        heads = taken(piece, ("cell", "eps", "eps_written"), first)
        for number, head in enumerate(heads):
            key = (head["cell"], head["eps"])
            written.setdefault(head["eps"], head["eps_written"])
            side = sides.get(key, np.zeros(0, np.uint8))
            if len(side) < len(places):
                side = np.concatenate([side, np.zeros(len(places) - len(side), np.uint8)])
            mine = (group == number) & (told > 0)
            side[sample[mine]] = told[mine]
            sides[key] = side
    return {key: np.pad(side, (0, len(places) - len(side))) for key, side in sides.items()}, written


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
    known = _all([one for side in sides for one in side], _COUNTED)
    # what held in every cell: of several attacks the worst outcome counts
    right, left = ([known & _all(side, flag) for side in sides] for flag in (_RIGHT, _LEFT))
    own, judge = left
    broke = right[0] & right[1] & ~own
    counted = (known, *right, own & judge, own & ~judge, judge & ~own, broke, broke & ~judge)
    return Pair(eps, written, *(int(np.count_nonzero(one)) for one in counted))


def _all(cells: Sequence[_Side], flag: int) -> NDArray[np.bool_]:
    held: NDArray[np.bool_] = np.logical_and.reduce([one & flag > 0 for one in cells])
    return held


__all__ = ["PAIR_COLUMNS", "Pair", "PairTable", "pair_tables", "paired_cells"]
