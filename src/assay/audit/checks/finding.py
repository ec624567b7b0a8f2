"""What a check is, and how it words what it found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from assay.audit.evidence import Evidence
from assay.audit.probes.attacks import Tries
from assay.evaluation.records.verdicts import Finding


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """A check's answer before it has its name: value and threshold, whether it flags, what it means, what to do.

    `remedy` is what to do here, where that differs from the remedy of the check.
    """

    value: float | None
    threshold: float | None
    flag: bool
    n: int
    meaning: str
    remedy: str | None = None


@dataclasses.dataclass(frozen=True)
class Check:
    """A line of the table of checks; the pages of the documentation are written from it.

    `test` reads what `probe` saw; its docstring is the definition. `summary` says what is asked, after "whether".
    `value` and `unit` say what is measured; in per cent a value is a share, from 0 to 1. `source` says where the
    threshold is from. `cause` is what the report says is wrong with the model where this check flags, `remedy` what to
    do about it. A mandatory check that flags makes a number suspect; the others explain.

    What a flag says of the evaluation's attacks decides how it is escalated: gradients do not lead to what is there
    (`masks`), they are not those of the model (`untrue`), an attack misses what is there (`misses`), or was
    `stopped_early`. One that is `weak` makes a number suspect even where nothing survived. Those `of_defenses` are
    asked about models that refuse images or stand behind defences, and no others.
    """

    test: Callable[[Evidence], CheckResult]
    probe: str
    summary: str
    value: str
    unit: str
    source: str
    cause: str
    remedy: str
    mandatory: bool = True
    masks: bool = False
    untrue: bool = False
    misses: bool = False
    stopped_early: bool = False
    weak: bool = False
    of_defenses: bool = False

    def find(self, name: str, evidence: Evidence) -> Finding:
        """Return the finding."""
        seen = self.test(evidence)
        remedy = self.remedy if seen.remedy is None else seen.remedy
        return Finding(name, seen.value, seen.threshold, seen.flag, self.mandatory, seen.n, seen.meaning, remedy)


def unasked(why: str) -> CheckResult:
    """Return the answer of a check that could not be asked."""
    return CheckResult(None, None, False, 0, f"Not asked: {why}.", "")


def percent(share: float) -> str:
    """Write a share."""
    return f"{100 * share:.1f} %"


def enough(broken: int, asked: int, share: float = 0.02) -> bool:
    """Whether so many broken survivors are more than chance and a hard image: two, and a share of those asked."""
    return broken >= max(2, share * asked)


def beaten(tries: Tries, share: float) -> CheckResult:
    """Return the answer of a check that flags where a try breaks a `share` of the survivors, two at least."""
    if not tries.broken or not tries.asked:
        return unasked("nothing was left standing, or there is no such attack in this norm")
    most = max(tries.broken.values())
    told = ", ".join(f"{name} broke {count}" for name, count in tries.broken.items())
    flag = enough(most, tries.asked, share)
    return CheckResult(most / tries.asked, share, flag, tries.asked, f"Of {tries.asked} survivors, {told}.")
