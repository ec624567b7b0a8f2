"""The rule of the verdict: from findings and what the escalation broke to trusted, suspect or refuted."""

from __future__ import annotations

from collections.abc import Sequence

from assay.audit.checks import CHECKS, flagging, flags
from assay.evaluation.records.verdicts import REFUTED, SUSPECT, TRUSTED, Attempt, Finding

LEAST, SHARE = 2, 0.01
_NAMED = 3


def refuting(asked: int) -> float:
    """Return how many of `asked` survivors must break to refute: two, and one in a hundred."""
    return max(LEAST, SHARE * asked)


def judge(findings: Sequence[Finding], survived: int, asked: int, broken: int, *, stopped: bool = False) -> str:
    """Return the verdict on a number of whose `survived` samples `asked` met stronger attacks, which broke `broken`.

    Where nothing survived the number cannot be too high; only a weak attack's is not trusted even then. An escalation
    that was `stopped` has not looked at all that it was meant to: nothing is trusted on it.
    """
    if asked and broken >= refuting(asked):
        return REFUTED
    doubted = bool(flags(findings)) if survived else any(one.weak for one in flagging(findings))
    return SUSPECT if doubted or stopped else TRUSTED


def reason(findings: Sequence[Finding], attempts: Sequence[Attempt], verdict: str, *, stopped: bool = False) -> str:
    """Return the verdict in one sentence: the first cause, what proves it, and what was left out."""
    causes = [CHECKS[one.check].cause for one in flags(findings)]
    rest = _left_out(attempts, stopped=stopped)
    if verdict == TRUSTED:
        return (
            f"Every mandatory check passed{rest}."
            if not causes
            else "Nothing was left standing: it cannot be too high."
        )
    if verdict == SUSPECT:
        cause = f"{causes[0][0].upper()}{causes[0][1:]}" if causes else "No check flags"
        broken = sum(one.broken for one in attempts)
        more = f"{broken} more broke, too few to refute" if broken else "nothing more was broken"
        return f"{cause}; {more}{rest}."
    cause = f"{causes[0][0].upper()}{causes[0][1:]}" if causes else "A stronger attack finds more"
    best = max(attempts, key=lambda one: one.broken)
    return f"{cause}; {best.name} breaks {best.broken} of {best.asked} survivors{rest}."


def _left_out(attempts: Sequence[Attempt], *, stopped: bool) -> str:
    names = [one.name for one in attempts if one.skipped]
    if not names and not stopped:
        return ""
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    tried = f"{named} {'was' if len(names) == 1 else 'were'} tried on every survivor" if names else "its end"
    if stopped:
        return f"; the escalation was stopped before {tried}"
    return f"; the limit of passes was reached before {tried}"
