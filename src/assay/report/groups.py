"""A run as its reader sees it: one group per model, data set and threat, one line per attack."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from assay import wording as words
from assay.evaluation.records.verdicts import REFUTED
from assay.evaluation.run import GRADIENT
from assay.evaluation.study.goal_words import STRICT, spoken

if TYPE_CHECKING:
    from assay.evaluation.analysis.score import Result
    from assay.evaluation.records.verdicts import Verdict
    from assay.evaluation.run import Run

WORST = "worst case"
AS_ATTACKED = "as_attacked"
WORST_CASE = "worst_case"
NORMALIZED = "normalized"
UNTARGETED = "untargeted"
NOT_ADAPTIVE = "not adaptive"
"""What is said of a number that attacks gave which ignore the model's defence."""
BLACK_BOX = "black box"
_SETTINGS = {"no-box": "no box", "grid=255": "8-bit images"}


@dataclasses.dataclass(frozen=True)
class Line:
    """One attack over its budgets, or the per-sample worst case over several (`cell` is None)."""

    label: str
    question: str
    cell: str | None
    results: tuple[Result, ...]

    @property
    def worst(self) -> bool:
        """Whether this is the worst case over the attacks."""
        return self.cell is None

    @property
    def adaptive(self) -> bool:
        """Whether the attack asks the model with its defence: of an undefended one, always."""
        return not self.results[0].ignores_defense

    @property
    def note(self) -> str:
        """What a reader must know before quoting these numbers."""
        if not self.adaptive:
            return "not adaptive: made on a model without the defence"
        if self.worst:
            return "per image, whichever attack broke it"
        return words.ONE_ATTACK if self.question == AS_ATTACKED else ""

    @property
    def queries(self) -> int | None:
        """How often a model that gives scores or labels alone was asked about an image at most; None of others."""
        return max((one.queries_limit for one in self.results if one.queries_limit is not None), default=None)

    @property
    def passes(self) -> str:
        """Forward and backward passes per image, all budgets together."""
        n = max(1, self.results[0].n)
        forwards = sum(result.forwards for result in self.results) / n
        backwards = sum(result.backwards for result in self.results) / n
        return f"{forwards:.3g} + {backwards:.3g}"

    def at(self, eps: float) -> Result | None:
        """Return the result at a budget, if there is one."""
        return next((result for result in self.results if result.eps == eps), None)


@dataclasses.dataclass(frozen=True)
class StrictText:
    """A strict robust accuracy with its interval: `measured` by attacks that want refusals, or else an upper bound."""

    accuracy: float
    low: float
    high: float
    n: int
    measured: bool

    @property
    def kept(self) -> str:
        """It as a percentage."""
        return f"{self.bound}{words.percent(self.accuracy, self.n)}"

    @property
    def bound(self) -> str:
        """The sign of an upper bound: no attack was asked for less, and there may be less."""
        return "" if self.measured or self.accuracy == 0 else "≤ "

    @property
    def range(self) -> str:
        """Its 95 % interval, in brackets."""
        return words.interval(self.low, self.high, self.n)

    def __str__(self) -> str:
        """Return it with its interval."""
        return f"{self.kept} {self.range}"


@dataclasses.dataclass(frozen=True)
class Group:
    """What may be compared: everything tried on one model with the same images and the same kind of change.

    `verdicts` are what an audit said about its worst-case numbers, in the order of their budgets. `strict` are, of a
    model that may refuse images, results of attacks on the same that want refusals. `beside_black_box`: other numbers
    of the run are those of a model that gives scores or labels alone.
    """

    model: str
    data: str
    threat: str
    unit: str
    goal: str
    lines: tuple[Line, ...]
    worst: Line | None
    verdicts: tuple[Verdict, ...] = ()
    strict: tuple[Result, ...] = ()
    beside_black_box: bool = False

    @property
    def norm(self) -> str:
        """The norm that measures the change: `linf`, `l2`, `l1` or `l0`."""
        return self.threat.split()[0]

    @property
    def first(self) -> Result:
        """Any result of the group: the clean numbers are the same in all."""
        return self.lines[0].results[0]

    @property
    def n(self) -> int:
        """How many images were attacked."""
        return self.first.n

    @property
    def shown(self) -> tuple[Line, ...]:
        """All lines, the worst case last."""
        return (*self.lines, self.worst) if self.worst else self.lines

    @property
    def budgets(self) -> tuple[Result, ...]:
        """One result per budget, in rising order: for what a budget is, not for its numbers."""
        by_eps = {result.eps: result for line in self.lines for result in line.results}
        return tuple(by_eps[eps] for eps in sorted(by_eps))

    @property
    def kind(self) -> str:
        """The kind of change, in words."""
        parts = [words.norm(self.norm)]
        if self.unit == NORMALIZED:
            parts.append("normalised units")
        parts += [_SETTINGS.get(part, part).replace("mask=", "in ") for part in self.threat.split()[1:]]
        if self.goal != UNTARGETED:
            parts.append(spoken(self.goal))
        return ", ".join(parts)

    @property
    def rejects(self) -> bool:
        """Whether the model may refuse an image."""
        return self.first.rejection is not None

    @property
    def black_box(self) -> bool:
        """Whether the model gives scores or labels alone."""
        return self.first.access != GRADIENT

    @property
    def elsewhere(self) -> bool:
        """Whether all images were made on another model."""
        return bool(self.lines) and all("surrogate=" in line.label for line in self.lines)

    @property
    def queries(self) -> int | None:
        """How often a black box was asked about an image at most, by the attack that asked most."""
        return max((line.queries for line in self.lines if line.queries is not None), default=None)

    @property
    def asked(self) -> list[str]:
        """What a reader of a black box's numbers must know; nothing of other models."""
        if not self.black_box:
            return []
        each = [f"{line.label} {words.queries(line.queries)}" for line in self.lines if line.queries is not None]
        most = f", for an image at a budget at most: {', '.join(each)}" if each else ""
        if self.elsewhere:
            return [
                f"{BLACK_BOX}: the model gives {self.first.access} alone. Its images were made on another model, and "
                f"an attack that heeds its own answers may leave less. The numbers are what these did not break{most}"
            ]
        return [
            f"{BLACK_BOX}: the model gives {self.first.access} alone, and attacks with gradients may leave far less. "
            f"The numbers are what was not broken by asking it{most}"
        ]

    @property
    def measure(self) -> str:
        """What its robust accuracies are called."""
        if self.black_box:
            lost = {True: ", a refusal counts as lost", False: ", or refused"}[self.goal == STRICT]
            own = words.measure(self.first.access, self.queries, elsewhere=self.elsewhere)
            return own + (lost if self.rejects else "")
        if not self.rejects:
            return "robust accuracy" if self.beside_black_box and self.goal == UNTARGETED else "accuracy"
        return {STRICT: "strict robust accuracy", UNTARGETED: "robust accuracy with rejection"}.get(
            self.goal, "accuracy"
        )

    @property
    def knows_rates(self) -> bool:
        """Whether anything is known of the threshold at a false-positive rate of 5 %."""
        return any(one.rejection and not words.missing(one.rejection.sr_at_5_fpr) for one in self.budgets)

    def strict_left(self, result: Result) -> StrictText | None:
        """Return the strict robust accuracy beside a result; None where that is the result, or none is known."""
        if result.rejection is None or self.goal != UNTARGETED:
            return None
        told = result.rejection
        found = [StrictText(told.strict_robust_accuracy, told.strict_low, told.strict_high, result.n, False)]
        found += [
            StrictText(one.robust_accuracy, one.robust_low, one.robust_high, one.n, True)
            for one in self.strict
            if one.eps == result.eps and one.n == result.n
        ]
        # of equal ones the measured
        return min(found, key=lambda one: (one.accuracy, not one.measured))

    @property
    def clean(self) -> str:
        """The accuracy without an attack, with its interval."""
        first = self.first
        if words.missing(first.clean_accuracy):
            return "accuracy unknown: labels are predicted by the model"
        kept = words.percent(first.clean_accuracy, first.n)
        return f"{kept} {words.interval(first.clean_low, first.clean_high, first.n)}"

    @property
    def merged(self) -> tuple[str, ...]:
        """The attacks that the worst case is over."""
        worst = self.worst
        return tuple(line.label for line in self.lines if line.question == worst.question) if worst else ()

    def verdict(self, eps: float) -> Verdict | None:
        """Return what an audit said at a budget."""
        return next((one for one in self.verdicts if one.eps == eps), None)

    def left(self, result: Result) -> float:
        """Return the accuracy that is left: after the escalation where that refuted a number, else as measured."""
        verdict = self.verdict(result.eps)
        if verdict is None or result.verdict != REFUTED:
            return result.robust_accuracy
        return min(verdict.after_escalation, result.robust_accuracy)

    def lowest(self, eps: float) -> tuple[Line, Result] | None:
        """Return the line that leaves the least accuracy at a budget."""
        found = [(line, result) for line in reversed(self.shown) if (result := line.at(eps)) is not None]
        return min(found, key=lambda pair: self.left(pair[1])) if found else None


def groups(run: Run) -> list[Group]:
    """Return the run's groups, those of most images first, else in the order their cells were planned."""
    by_key: dict[_Key, dict[str, list[Result]]] = {}
    order = {cell: place for place, cell in enumerate(run.manifest["cells"])}
    for result in sorted(run.results(), key=lambda result: (order.get(result.cell, len(order)), result.eps)):
        if result.n:
            by_key.setdefault(_key(result), {}).setdefault(result.cell, []).append(result)
    merged = run.worst_case() if any(len(found) > 1 for found in by_key.values()) else []
    verdicts = sorted(run.verdicts(), key=lambda verdict: verdict.eps)
    made = [
        dataclasses.replace(_group(key, found, merged, verdicts), strict=_strict(key, by_key, merged))
        for key, found in by_key.items()
    ]
    mixed = any(group.black_box for group in made)
    made = [dataclasses.replace(group, beside_black_box=mixed) for group in made]
    return sorted(made, key=lambda group: -group.n)


_Key = tuple[str, str, str, str, str]


def _strict(
    key: _Key, by_key: Mapping[_Key, Mapping[str, list[Result]]], merged: Sequence[Result]
) -> tuple[Result, ...]:
    if key[-1] != UNTARGETED:
        return ()
    wanted = (*key[:-1], STRICT)
    each = [one for results in by_key.get(wanted, {}).values() for one in results]
    return tuple(one for one in [*each, *merged] if _key(one) == wanted and not one.ignores_defense)


def _key(about: Result | Verdict) -> _Key:
    return about.model, about.data, about.threat, about.unit, about.goal


def _group(key: _Key, found: dict[str, list[Result]], merged: list[Result], verdicts: Sequence[Verdict]) -> Group:
    lines = tuple(
        Line(label, results[0].question, cell, tuple(results))
        for label, (cell, results) in zip(_labels(found), found.items(), strict=True)
    )
    worst = _worst(lines, [result for result in merged if _key(result) == key and result.n])
    return Group(*key, lines, worst, tuple(one for one in verdicts if _key(one) == key))


def _worst(lines: Sequence[Line], merged: Sequence[Result]) -> Line | None:
    """Return the worst case over several attacks of one question, at the budgets that more than one of them tried.

    Where both questions have one, it is that of the attacks run for the worst case.
    """
    for question in (WORST_CASE, AS_ATTACKED):
        tried = [result.eps for line in lines for result in line.results if line.question == question]
        shared = [result for result in merged if result.question == question and tried.count(result.eps) > 1]
        if shared:
            return Line(WORST, question, None, tuple(sorted(shared, key=lambda result: result.eps)))
    return None


def _labels(found: dict[str, list[Result]]) -> list[str]:
    """Name lines by attack; where two share it, by what they differ in."""
    names = [results[0].attack for results in found.values()]
    labels: list[str] = []
    for name, (cell, results) in zip(names, found.items(), strict=True):
        same = [other[0] for other in found.values() if other[0].attack == name]
        label = name
        if len({other.question for other in same}) > 1:
            label += f", {results[0].question.replace('_', ' ')}"
        if len({other.seed for other in same}) > 1:
            label += f", seed {results[0].seed}"
        label = label if labels.count(label) == 0 else f"{label}, {cell[:6]}"
        labels.append(f"{label}, {NOT_ADAPTIVE}" if results[0].ignores_defense else label)
    return labels
