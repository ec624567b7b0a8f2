"""Verdicts in words, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from assay.evaluation.records.verdicts import REFUTED
from assay.wording import plural, rough_duration

if TYPE_CHECKING:
    from assay.evaluation.records.verdicts import Verdict


def cost_of(verdicts: Sequence[Verdict]) -> str:
    """Say what an audit cost."""
    passes, more = sum(one.passes for one in verdicts), sum(one.escalation for one in verdicts)
    seconds = sum(one.seconds for one in verdicts)
    escalation = f", {more:,} to escalate" if more else ""
    numbers = plural(len(verdicts), "number")
    return f"Audit     {numbers} in {rough_duration(seconds)}: {passes:,} passes to look{escalation}"


def lines(verdict: Verdict) -> Iterator[str]:
    """Yield a verdict for people: the number, what stands against it, what proves it."""
    first, after = 100 * verdict.as_first_measured, 100 * verdict.after_escalation
    called = "as first measured" if verdict.access == "gradient" else verdict.wording
    told = f"{first:.1f} % {called}" + (f", {after:.1f} % after escalation" if verdict.asked else "")
    yield f"{verdict.verdict.upper():10}{verdict.model}, {verdict.data}, {verdict.threat} {verdict.eps_written}: {told}"
    yield f"          {verdict.why}"
    if verdict.twin:
        yield f"          led by the gradients of {verdict.twin}; the model itself judged every image"
    if verdict.certified:
        share = 100 * verdict.certified / verdict.n
        yield f"          of these {plural(verdict.certified, 'image')} certified ({share:.1f} %): they need no attack"
    if verdict.verdict != REFUTED:
        for look in verdict.looks:
            yield (
                f"  looked  {look.family} ({look.attack}): {look.asked} of {look.population} survivors, broke "
                f"{look.broken}; at most {100 * look.bound:.1f} points could fall to it"
            )
    for one in verdict.findings:
        if one.flag:
            yield f"  {'flag' if one.mandatory else 'note':7} {one.check}: {one.meaning}"
            if one.mandatory:
                yield f"          {one.remedy}"
    for attempt in verdict.attempts:
        if attempt.asked or not attempt.skipped:
            yield f"  tried   {attempt.name} on {attempt.asked}: broke {attempt.broken} ({attempt.passes:,} passes)"
        if attempt.skipped:
            yield f"  skipped {attempt.name} on {attempt.skipped}: {verdict.why_skipped}"
