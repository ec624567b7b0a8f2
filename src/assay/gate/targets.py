"""Which numbers of a run a row of a gate is about, and what speaks against believing them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.core.errors import BadInput
from assay.evaluation.records.verdicts import REFUTED, SUSPECT, Verdict
from assay.evaluation.run import GRADIENT
from assay.evaluation.study.gate import ANY_VERDICT
from assay.gate.pairing import WORST
from assay.report.formats import NOT_AUDITED
from assay.statistics import wilson
from assay.vocabulary import Question

if TYPE_CHECKING:
    from assay.evaluation.analysis.score import Result
    from assay.evaluation.run import Run
    from assay.evaluation.study.gate import GateRow, ThreatFilter
    from assay.gate.sides import Number

UNTARGETED = "untargeted"
NOT_REFUTED = "not refuted"
_AUDIT = "a broken attack leaves as much (assay audit RUN; or verdict: any in the row accepts that)"
_MOST_TOLD = 12


@dataclasses.dataclass(frozen=True)
class Target:
    """A number that a row is about: a result of the run, the attacks behind it, and the doubts about it.

    `hits` of `n` images are right; `errors` more could not be evaluated. What an escalation broke is no hit.
    """

    result: Result
    numbers: tuple[Number, ...]
    hits: int
    n: int
    errors: int
    doubts: tuple[str, ...]
    verdict: str | None

    @property
    def attacks(self) -> str:
        """The attack, or how many the worst case is over."""
        one = self.result
        return one.attack if len(self.numbers) < 2 else WORST.format(len(self.numbers))


def robust_targets(run: Run, row: GateRow, numbers: Sequence[Number]) -> list[Target]:
    """Return the robust accuracies that a row is about. Raises `BadInput` where there is none."""
    # of corruptions alone a run has no robust accuracy
    known = run.results() if row.attack else run.worst_case()
    found = [one for one in known if _fits(one, row) and one.goal == (row.goal or UNTARGETED)]
    sought = {_about(one, row) for one in found if one.question == Question.WORST_CASE}
    # of one attack as it is there is a number only where no worst case was sought of the same
    found = [one for one in found if one.question == Question.WORST_CASE or _about(one, row) not in sought]
    verdicts = {one.key: one for one in run.verdicts()}
    limited = row.wanted is not None and not row.wanted.change
    every = run.results() if found and limited else []
    targets = [_robust(one, row, numbers, verdicts, tuple(_lower(one, row, every))) for one in found]
    if not targets:
        lacks = "".join(f" {gap}." for gap in run.gaps())
        raise BadInput(f"no robust accuracy of the run is of {_filters(row)}. There are: {_there(known)}.{lacks}")
    return targets


def _about(one: Result, row: GateRow) -> tuple[object, ...]:
    attack = one.attack if row.attack else ""
    return one.model, one.data, one.threat, one.unit, one.eps, one.goal, attack


def clean_targets(run: Run, row: GateRow) -> list[Target]:
    """Return the accuracies without an attack that a row is about. Raises `BadInput` where there is none."""
    known = [*run.results(), *(one for one in run.unattacked() if row.data or _original(run, one))]
    best: dict[tuple[str, str], Result] = {}
    for one in known:
        place = (one.model, one.data)
        # where a goal leaves samples out, others count them
        if _named(one, row) and (place not in best or one.n > best[place].n):
            best[place] = one
    if not best:
        named = {f"{one.model} on {one.data}": None for one in known}
        raise BadInput(f"no accuracy of the run is of {_filters(row)}. There are: {_list(named)}.")
    return [_clean(one) for one in best.values()]


def _clean(one: Result) -> Target:
    doubts: tuple[str, ...] = ()
    if math.isnan(one.clean_accuracy) and one.n:
        doubts = ("labels are the model's own answers, so that there is no accuracy without an attack",)
    return Target(one, (), one.clean_correct, one.n, one.errors, doubts, None)


def _original(run: Run, one: Result) -> bool:
    source = str(run.cells[one.cell]["specs"]["data"]["source"])
    if "|" not in source:
        return True
    # corruptions are drawn with torch; most runs have none
    from assay.data.corruption import take_view

    return not take_view(source)[1]


def _robust(
    one: Result, row: GateRow, numbers: Sequence[Number], verdicts: Mapping[Any, Verdict], lower: tuple[str, ...]
) -> Target:
    key = (one.model, one.data, one.threat, one.unit, one.eps, one.question, one.goal)
    mine = tuple(two for two in numbers if two.key == key and (not one.cell or two.cell == one.cell))
    verdict = verdicts.get((one.model, one.data, one.threat, one.unit, one.eps, one.goal))
    lost = verdict.broken if verdict is not None and one.verdict == REFUTED else 0
    doubts = (*_about_the_attack(one, row, mine), *lower, *_about_the_verdict(one, row, verdict))
    return Target(one, mine, max(0, one.survived - lost), one.n, one.errors, doubts, one.verdict)


def _about_the_attack(one: Result, row: GateRow, numbers: Sequence[Number]) -> Iterator[str]:
    if one.access != GRADIENT:
        yield (f"{one.wording}: the model gives {one.access} alone, and an attack with gradients may leave far less")
    if one.ignores_defense:
        yield "the images were made on a model without the defence"
    if row.attack:
        # who names an attack asks for its number
        return
    if one.question != Question.WORST_CASE:
        yield f"{words.ONE_ATTACK} (question {one.question}): write question: worst_case, or name the attack"
    if numbers and all("surrogate=" in two.attack for two in numbers) and not one.ignores_defense:
        yield "the images were made on another model: an upper bound (name the attack to ask for it)"


def _lower(one: Result, row: GateRow, every: Iterable[Result]) -> Iterator[str]:
    """Yield what else the run tried inside this budget that left less: the row would not be met by it.

    An image that an attack of another question or goal turned inside a smaller budget is broken in this one too. What
    is inside of a targeted goal is no other one's.
    """
    wanted, least = row.wanted, one.robust_accuracy
    if wanted is None:
        return
    for other in every:
        same = (other.model, other.data, other.threat, other.unit) == (one.model, one.data, one.threat, one.unit)
        if not same or not 0 < other.eps <= one.eps or (other.question, other.goal, other.eps) == (
            one.question, one.goal, one.eps
        ):  # fmt: skip
            continue
        if one.goal not in (UNTARGETED, other.goal) or not (
            row.attack is None or _like_attack(other.attack, row.attack)
        ):
            continue
        if (
            other.n
            and other.robust_accuracy < least
            and wilson(other.survived, other.n, row.confidence)[0] < wanted.share
        ):
            how = f"{other.attack} at {other.eps_written} (question {other.question}, {other.goal})"
            yield f"{how} left {words.percent(other.robust_accuracy, other.n, ' ')} inside the same budget"


def _about_the_verdict(one: Result, row: GateRow, verdict: Verdict | None) -> Iterator[str]:
    if one.verdict == REFUTED:
        yield "refuted: stronger attacks broke more, and the number is at most what they left"
    elif one.verdict == SUSPECT and row.verdict not in (NOT_REFUTED, ANY_VERDICT):
        why = verdict.why.rstrip(".") if verdict is not None else "the audit doubts it"
        yield f"suspect: {why} (verdict: not refuted accepts that)"
    elif one.verdict is None and row.verdict != ANY_VERDICT and (row.verdict is not None or row.against is None):
        # a difference of two numbers that nobody audited is one all the same; a limit is about how much is left
        yield NOT_AUDITED if row.robust_accuracy is None else f"{NOT_AUDITED}: {_AUDIT}"


def accepted(row: GateRow, verdict: str | None) -> str:
    """Say why a number with a verdict other than trusted may meet a row; "" where nothing needs saying."""
    if verdict == NOT_AUDITED and row.against is not None and row.verdict is None:
        return "a comparison may be met without an audit"
    if (verdict == NOT_AUDITED and row.verdict == ANY_VERDICT) or (
        verdict == SUSPECT and row.verdict in (NOT_REFUTED, ANY_VERDICT)
    ):
        return f"verdict: {row.verdict} accepts that"
    return ""


def _named(one: Result, row: GateRow) -> bool:
    return _like(one.model, row.model) and _like(one.data, row.data)


def _fits(one: Result, row: GateRow) -> bool:
    if not _named(one, row) or not (row.attack is None or _like_attack(one.attack, row.attack)):
        return False
    wanted = row.threat_filter
    if wanted is not None and not _same_words(wanted, one.threat.split()):
        return False
    if wanted is None or wanted.budget is None:
        return one.eps > 0
    return wanted.budget.unit == one.unit and math.isclose(wanted.budget.value, one.eps, rel_tol=1e-9)


def _same_words(wanted: ThreatFilter, label: Sequence[str]) -> bool:
    if wanted.budget is not None:
        # a mask or a grid lets less change: who names a ball means all of it
        return sorted(wanted.words) == sorted(label)
    return wanted.words[0] == label[0] and set(wanted.words) <= set(label)


def _like(name: str, wanted: str | None) -> bool:
    return wanted is None or name == wanted or fnmatchcase(name, wanted)


def _like_attack(label: str, wanted: str) -> bool:
    return _like(label, wanted) or label.partition("(")[0] == wanted


def _filters(row: GateRow) -> str:
    names = ("model", "data", "threat", "attack", "goal")
    told = [f"{name} {getattr(row, name)!r}" for name in names if getattr(row, name) is not None]
    return ", ".join(told) or "a budget above 0 and an untargeted goal"


def _there(known: Iterable[Result]) -> str:
    return _list(
        {
            f"{one.model} on {one.data}, {one.threat} {one.eps_written}, {one.attack}"
            f"{'' if one.goal == UNTARGETED else f', {one.goal}'}": None
            for one in known
        }
    )


def _list(names: dict[str, None]) -> str:
    told = list(names)
    more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return "; ".join(told[:_MOST_TOLD]) + more if told else "none: nothing was attacked yet"


__all__ = ["NOT_REFUTED", "UNTARGETED", "Target", "accepted", "clean_targets", "robust_targets"]
