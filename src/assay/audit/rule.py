"""The rule of the verdict: from findings and what the escalation broke to trusted, suspect or refuted."""

from __future__ import annotations

from collections.abc import Sequence

from assay.audit.checks import CHECKS
from assay.evaluation.records.verdicts import REFUTED, SUSPECT, TRUSTED, Attempt, Finding

LEAST, SHARE = 2, 0.01
WEAK = "two families"


def refuting(asked: int) -> float:
    """Return how many of `asked` survivors must break to refute: two, and one in a hundred."""
    return max(LEAST, SHARE * asked)


def judge(findings: Sequence[Finding], survived: int, asked: int, broken: int) -> str:
    """Return the verdict on a number of whose `survived` samples `asked` met stronger attacks, which broke `broken`.

    Where nothing survived the number cannot be too high; only a weak attack's is not trusted even then.
    """
    if asked and broken >= refuting(asked):
        return REFUTED
    doubts = flags(findings) if survived else [one for one in flags(findings) if one.check == WEAK]
    return SUSPECT if doubts else TRUSTED


def flags(findings: Sequence[Finding]) -> list[Finding]:
    """Return the mandatory findings that flag."""
    return [one for one in findings if one.flag and one.mandatory]


def reason(findings: Sequence[Finding], attempts: Sequence[Attempt], verdict: str) -> str:
    """Return the verdict in one sentence: the first cause, and what proves it."""
    causes = [CHECKS[one.check].cause for one in flags(findings)]
    if verdict == TRUSTED:
        return "Every mandatory check passed." if not causes else "Nothing was left standing: it cannot be too high."
    cause = f"{causes[0][0].upper()}{causes[0][1:]}" if causes else "A stronger attack finds more"
    if verdict == SUSPECT:
        broken = sum(one.broken for one in attempts)
        return f"{cause}; {f'{broken} more broke, too few to refute' if broken else 'nothing more was broken'}."
    best = max(attempts, key=lambda one: one.broken)
    return f"{cause}; {best.name} breaks {best.broken} of {best.asked} survivors."
