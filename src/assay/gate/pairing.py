"""Two runs side by side: the same cells on the same images, what changed, and how sure that is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.core.errors import BadInput
from assay.gate.sides import FELL, LEFT, LEFT_OUT, UNKNOWN, Number, Outcomes, Side
from assay.statistics import CONFIDENCE, holm, mcnemar_p, paired_difference, paired_score, two_sided
from assay.vocabulary import PREDICTED_LABELS

CLEAN, ROBUST = "clean", "robust"
WORST = "worst case of {}"


@dataclasses.dataclass(frozen=True)
class Change:
    """A number before (`a`) and now (`b`), on the same `n` images: right in both, in one alone, in neither.

    `label` is the class it is about, None for all. `lost` and `won` are the ids of the images that only `a`, only `b`
    has right, where ids are known. `number` is the first of the numbers now, `before` that of the numbers before.
    `adjusted` is the p-value that allows for all comparisons made at once (Holm).
    """

    kind: str
    number: Number
    attack: str
    n: int
    both: int
    only_a: int
    only_b: int
    label: int | None = None
    lost: tuple[str, ...] = ()
    won: tuple[str, ...] = ()
    adjusted: float = math.nan
    before: Number | None = None

    @property
    def a(self) -> float:
        """The accuracy before."""
        return (self.both + self.only_a) / self.n if self.n else math.nan

    @property
    def b(self) -> float:
        """The accuracy now."""
        return (self.both + self.only_b) / self.n if self.n else math.nan

    @property
    def difference(self) -> float:
        """The accuracy now minus that before."""
        return (self.only_b - self.only_a) / self.n if self.n else math.nan

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return Tango's interval of the difference."""
        return paired_difference(self.only_b, self.only_a, self.n, confidence)

    @property
    def p_value(self) -> float:
        """The exact p-value of McNemar's test: how likely so uneven a split is where nothing changed."""
        return mcnemar_p(self.only_a, self.only_b)

    def worse_p(self, margin: float) -> float:
        """Return how likely so large a loss is where the accuracy fell by `margin`; 1 where less was lost than that.

        Two-sided, so that it is below 5 % where the 95 % interval of the difference ends below -`margin`; and never
        less than the exact p-value that anything changed.
        """
        if not self.n or self.difference >= -margin:
            return 1.0
        return max(two_sided(paired_score(self.only_b, self.only_a, self.n, -margin)), self.p_value)


class Match(NamedTuple):
    """Which model and data set of `b` are which of `a`: label in `b` -> label in `a`."""

    models: Mapping[str, str]
    data: Mapping[str, str]


def match(a: Side, b: Side) -> Match:
    """Return which models and data sets are the same: those of one name, else the only ones of their side.

    Raises `BadInput` where data sets of one name hold other images, labels or samples.
    """
    models = _same(_used(a, "model"), _used(b, "model"))
    data = _same(_used(a, "data"), _used(b, "data"))
    for now, before in data.items():
        if a.data.get(before, "") != b.data.get(now, ""):
            raise BadInput(
                f"{now} is not the same in both: fingerprint {a.data.get(before) or 'unknown'} in {a.name}, "
                f"{b.data.get(now) or 'unknown'} in {b.name}. Images, labels or the selection differ, so that nothing "
                "can be paired. Compare runs on the same samples, or make a new baseline: assay baseline save RUN"
            )
    return Match(models, data)


def _used(side: Side, name: str) -> list[str]:
    return list(dict.fromkeys(getattr(number, name) for number in side.numbers))


def _same(a: Sequence[str], b: Sequence[str]) -> dict[str, str]:
    if len(a) == len(b) == 1:
        return {b[0]: a[0]}
    return {name: name for name in b if name in a}


def pairs(a: Side, b: Side, matched: Match) -> list[tuple[Number, Number]]:
    """Return the numbers that both have, in the order of `b`: same attack, threat, budget, question and goal."""
    before: dict[Any, list[Number]] = {}
    for one in a.numbers:
        before.setdefault(_identity(one, one.model, one.data), []).append(one)
    found = []
    wanted = {(_identity(one, one.model, one.data), one.seed) for one in b.numbers}
    for now in b.numbers:
        if now.model not in matched.models or now.data not in matched.data:
            continue
        same = before.get(_identity(now, matched.models[now.model], matched.data[now.data]), [])
        if same:
            # of several seeds the same one, else one that no other number has the seed of
            free = [one for one in same if (_identity(now, now.model, now.data), one.seed) not in wanted]
            chosen = next((one for one in same if one.seed == now.seed), (free or same)[0])
            same.remove(chosen)
            found.append((chosen, now))
    return found


def _identity(one: Number, model: str, data: str) -> tuple[Any, ...]:
    return model, data, one.attack, one.threat, one.unit, one.eps, one.question, one.goal


def joined(a: Outcomes, b: Outcomes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Outcomes]:
    """Return the states of both on the same samples, and `b` on these. Raises `BadInput` where they share none."""
    if a.samples == b.samples:
        # whichever of the two has ids
        return a.states, b.states, b if b.ids is not None else dataclasses.replace(b, ids=a.ids, labels=a.labels)
    if a.ids is None or b.ids is None:
        raise BadInput(f"{name}: the baseline file is of other samples, so that nothing can be paired. Make a new one: "
                       "assay baseline save RUN")  # fmt: skip
    ids, mine, theirs = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    if not len(ids):
        raise BadInput(f"{name}: the two runs share no sample. Compare runs on the same data and selection.")
    labels = None if b.labels is None else b.labels[theirs]
    return a.states[mine], b.states[theirs], Outcomes("", b.states[theirs], ids, labels)


def change(a: Outcomes, b: Outcomes, number: Number, attack: str, kind: str = ROBUST) -> Change:
    """Return what changed of one number, on the samples that both could evaluate."""
    return changes(a, b, number, attack, kind, labels=(None,))[0]


def changes(
    a: Outcomes, b: Outcomes, number: Number, attack: str, kind: str = ROBUST, *, labels: Sequence[int | None]
) -> list[Change]:
    """Return what changed of one number for each class (None: all), on the samples that both could evaluate."""
    before, now, whole = joined(a, b, f"{number.model}, {number.data}")
    counted = ~np.isin(before, (LEFT_OUT, UNKNOWN)) & ~np.isin(now, (LEFT_OUT, UNKNOWN))
    right = (LEFT,) if kind == ROBUST else (FELL, LEFT)
    had, has = np.isin(before, right), np.isin(now, right)
    found = []
    for label in labels:
        mine = counted if label is None else counted & (whole.labels == label)
        lost, won = mine & had & ~has, mine & ~had & has
        ids = [() if whole.ids is None else tuple(map(str, whole.ids[one])) for one in (lost, won)]
        counts = (int(mine.sum()), int((mine & had & has).sum()), int(lost.sum()), int(won.sum()))
        found.append(Change(kind, number, attack, *counts, label=label, lost=ids[0], won=ids[1]))
    return found


def allowing_for_all(found: Sequence[Change]) -> list[Change]:
    """Return changes with p-values that allow for their number (Holm)."""
    adjusted = holm([one.p_value for one in found])
    return [dataclasses.replace(one, adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def told_differences(a: Side, b: Side, matched: Match, paired: Iterable[tuple[Number, Number]]) -> list[str]:
    """Return what differs between two sides besides their numbers, in words."""
    told = []
    for now, before in matched.models.items():
        name = now if now == before else f"{before}, now {now}"
        if a.models.get(before) != b.models.get(now):
            told.append(
                f"model {name}: other weights ({_short(a.models.get(before))}, now {_short(b.models.get(now))})"
            )
        elif now != before:
            told.append(f"model {name}: the same weights")
    told += [f"data {before}, now {now}: the same content" for now, before in matched.data.items() if now != before]
    for then, after in paired:
        if then.version != after.version:
            told.append(f"attack {after.attack}: version {then.version}, now {after.version}")
        if then.seed != after.seed:
            told.append(f"attack {after.attack}: seed {then.seed}, now {after.seed}")
    told += [
        f"{name} {a.versions.get(name)}, now {value}"
        for name, value in b.versions.items()
        if a.versions.get(name) != value
    ]
    return list(dict.fromkeys(told))


def _short(digest: str | None) -> str:
    return (digest or "unknown")[:12]


def unpaired(side: Side, paired: Iterable[Number]) -> list[str]:
    """Return the numbers of a side that the other lacks, in words: one line per attack, with its budgets."""
    known = set(paired)
    left: dict[tuple[str, ...], list[str]] = {}
    for one in side.numbers:
        if one not in known:
            left.setdefault((one.model, one.data, one.attack, one.threat), []).append(one.eps_written)
    return [
        f"{attack} on {model}, {data}: {threat} {', '.join(eps)}" for (model, data, attack, threat), eps in left.items()
    ]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What changed from `a` to `b`: cell by cell, in the worst case, and without an attack.

    `by_class` are the changes of each class, in the order of `changes`; empty where labels are unknown. `differs` says
    what besides the numbers differs, `only_a` and `only_b` which numbers one side alone has.
    """

    a: Side
    b: Side
    changes: tuple[Change, ...]
    by_class: tuple[tuple[Change, ...], ...]
    differs: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def compare(a: Side, b: Side) -> Comparison:
    """Compare two sides where they agree on what was measured. Raises `BadInput` where they agree on nothing."""
    matched = match(a, b)
    paired = pairs(a, b, matched)
    if not paired:
        told = [" / ".join(unpaired(side, ())[:3]) or "no number" for side in (a, b)]
        raise BadInput(
            f"{a.name} and {b.name} have no number in common: {told[0]} there, {told[1]} here. Compare runs with the "
            "same attacks, threats and budgets."
        )
    merged: dict[Any, list[tuple[Number, Number]]] = {}
    for pair in paired:
        merged.setdefault(pair[1].key, []).append(pair)
    found: list[tuple[Change, ...]] = []
    clean: set[tuple[str, str, str]] = set()
    for group in merged.values():
        number = group[0][1]
        names = (number.model, number.data, number.goal)
        if names not in clean and not number.data.endswith(PREDICTED_LABELS):
            clean.add(names)
            found.append(_each(a, b, group[:1], "", CLEAN))
        found += [_each(a, b, [pair], pair[1].attack, ROBUST) for pair in group]
        if len(group) > 1:
            found.append(_each(a, b, group, WORST.format(len(group)), ROBUST))
    differs = tuple(told_differences(a, b, matched, paired))
    whole = allowing_for_all([one[0] for one in found])
    return Comparison(
        a, b, tuple(whole), tuple(one[1:] for one in found), differs,
        tuple(unpaired(a, [one for one, _ in paired])), tuple(unpaired(b, [one for _, one in paired])),
    )  # fmt: skip


def _each(a: Side, b: Side, group: Sequence[tuple[Number, Number]], attack: str, kind: str) -> tuple[Change, ...]:
    before, now = a.outcomes(one for one, _ in group), b.outcomes(one for _, one in group)
    number = group[0][1]
    if before is None or now is None:
        side = a if before is None else b
        raise BadInput(f"{side.name} has no records of {number.attack} on {number.model}. Run it again.")
    labelled = next((one.labels for one in (now, before) if one.labels is not None), None)
    labels = [] if labelled is None else sorted({int(one) for one in labelled})
    found = changes(before, now, number, attack, kind, labels=[None, *labels])
    return tuple(dataclasses.replace(one, before=group[0][0]) for one in found)


__all__ = ["CLEAN", "ROBUST", "WORST", "Change", "Comparison", "Match", "allowing_for_all", "change", "changes",
           "compare", "match", "pairs", "told_differences", "unpaired"]  # fmt: skip
