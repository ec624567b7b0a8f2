"""Verdicts beside the numbers: marks and words, what is left after escalation, and what the audit cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.evaluation.records.verdicts import REFUTED, SUSPECT, TRUSTED
from assay.evaluation.study.goal_words import STRICT
from assay.report.groups import UNTARGETED, Group
from assay.statistics import wilson

if TYPE_CHECKING:
    from assay.evaluation.analysis.score import Result
    from assay.evaluation.records.verdicts import Verdict

MARKS = {TRUSTED: "✓", SUSPECT: "?", REFUTED: "✗"}
AS_FIRST = "as first measured"
LEGEND = (
    f"{MARKS[TRUSTED]} trusted: every mandatory check of the audit passed, and it looked closely enough; "
    f"{MARKS[SUSPECT]} suspect: a check throws doubt on the number, too little was looked at, or the model is a black "
    f"box; {MARKS[REFUTED]} refuted: stronger attacks broke more, and the number is what they left"
)


@dataclasses.dataclass(frozen=True)
class NumberText:
    """A robust accuracy as it is told: what is left, its interval where that is known, and the verdict on it.

    `first` is the accuracy as first measured, of a refuted number only.
    """

    accuracy: float
    low: float | None
    high: float | None
    n: int
    verdict: str | None
    first: float | None

    @property
    def kept(self) -> str:
        """The accuracy as a percentage."""
        return words.percent(self.accuracy, self.n)

    @property
    def range(self) -> str:
        """Its 95 % interval, in brackets; nothing where it is an estimate."""
        return words.interval(self.low, self.high, self.n)

    @property
    def mark(self) -> str:
        """The sign of the verdict; nothing without one."""
        return MARKS.get(self.verdict or "", "")

    @property
    def before(self) -> str:
        """What was measured first, of a refuted number."""
        return "" if self.first is None else f"{words.percent(self.first, self.n)} {AS_FIRST}"

    @property
    def marked(self) -> str:
        """The accuracy with its mark, and what was measured first."""
        return " ".join(part for part in (self.kept, self.mark, f"({self.before})" if self.before else "") if part)


def told(group: Group, result: Result) -> NumberText:
    """Return a result as it is told."""
    verdict = group.verdict(result.eps)
    if verdict is None or result.verdict != REFUTED:
        measured = (result.robust_accuracy, result.robust_low, result.robust_high)
        return NumberText(*measured, result.n, result.verdict, None)
    left = group.left(result)
    # where the escalation met only some of the survivors, what it leaves of all is an estimate
    counted = verdict.asked in (0, verdict.open)
    low, high = wilson(round(left * result.n), result.n) if counted else (None, None)
    return NumberText(left, low, high, result.n, REFUTED, result.robust_accuracy)


def refusals(group: Group) -> list[str]:
    """Return what a model that may refuse images does to clean ones, and what its numbers mean; nothing of others."""
    one, n = group.first.rejection, group.n
    if one is None:
        return []
    interval = ""
    if not words.missing(one.fpr_low):
        interval = f"; 95 % interval of its threshold {words.interval(one.fpr_low, one.fpr_high, max(n, 100))}"
    clean = [f"coverage {words.percent(one.coverage, n)}"]
    if not words.missing(one.selective_accuracy):
        clean.append(f"selective accuracy {words.percent(one.selective_accuracy, n)}")
    right = "" if words.missing(one.fpr_correct) else f" ({words.percent(one.fpr_correct, n)} of the clean-correct)"
    told = [f"{', '.join(clean)}, FPR on clean images {words.percent(one.fpr, n)}{right}{interval}"]
    if group.goal == STRICT:
        return [*told, "accuracy is strict robust accuracy: right, and every attacked image right; a refusal is lost"]
    if group.goal != UNTARGETED:
        return told
    meant = "accuracy is robust accuracy with rejection: right, and every attacked image right or refused"
    measured = any(
        two.measured for line in group.shown for result in line.results if (two := group.strict_left(result))
    )
    by = "measured by attacks that want refusals" if measured else "an upper bound: these attacks want no refusals"
    return [*told, meant, f"strict robust accuracy counts a refusal as lost ({by})"]


def lines(group: Group) -> list[str]:
    """Return a line per verdict: why, what is left, what it cost."""
    return [f"{one.verdict} at {words.bare(one.eps_written)}: {reason(one)} {cost(one)}" for one in group.verdicts]


def reason(verdict: Verdict) -> str:
    """Say why, and of a refuted number what is left of it."""
    if verdict.verdict != REFUTED:
        return verdict.why
    left, first = (words.percent(value, verdict.n) for value in (verdict.after_escalation, verdict.as_first_measured))
    return f"{verdict.why} {left} after escalation, {first} {AS_FIRST}."


def sentence(verdict: Verdict) -> str:
    """Return the verdict as the end of a headline: trusted and how closely, or the cause and what is left."""
    called = verdict.verdict.capitalize()
    if verdict.verdict == TRUSTED:
        return f"{called}." if verdict.resolution is None else f"{called} to {100 * verdict.resolution:.1f} points."
    why = f"{verdict.why[:1].lower()}{verdict.why[1:]}"
    if verdict.verdict == SUSPECT:
        return f"{called}: {why}"
    left = words.percent(verdict.after_escalation, verdict.n)
    return f"{called}: {why.removesuffix('.')}, and the escalation leaves {left}."


def plain(verdict: Verdict) -> dict[str, Any]:
    """Return what scripts read of a verdict beside a run's numbers."""
    told = verdict.plain()
    names = ("model", "data", "threat", "eps", "verdict", "why", "n", "survived", "certified", "after_escalation")
    more = ("resolution", "looks", "access", "queries_limit", "twin")
    return {**{name: told[name] for name in (*names, *more)}, "wording": verdict.wording}


def cost(verdict: Verdict) -> str:
    """Say what an audit took: passes beside those of the evaluation, and time."""
    more = f" and {words.count(verdict.escalation)} of escalation" if verdict.escalation else ""
    spent = f"{words.count(verdict.passes)} passes{more} for {words.count(verdict.evaluation_passes)} of the evaluation"
    return f"{verdict.preset.capitalize()} audit: {spent}, {words.duration(verdict.seconds)}."
