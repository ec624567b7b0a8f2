"""The rule of the verdict: from findings, looks and what broke to trusted, suspect or refuted, and the sentence why."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from assay.audit.checks import CHECKS, flagging, flags
from assay.audit.subject import FAMILIES
from assay.evaluation.records.verdicts import REFUTED, SUSPECT, TRUSTED, Attempt, FamilyLook, Finding
from assay.statistics import CONFIDENCE, wilson

LEAST, SHARE = 2, 0.01
RESOLUTION = 0.05
"""A trusted number may fall by at most this share of the images, as far as the families of attacks could see."""

FEWEST = math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - RESOLUTION))
"""Images that a trusted number is of at least: what happens on a share `RESOLUTION` of all images shows on one of so
many, at 95 %."""

_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much of a number an audit could have missed: of `n` images `survived`, `certified` of them provably.

    `looks` are those of the families of attacks at what is not certified. A `black_box` gives scores or labels alone,
    and no white-box twin was judged on it.
    """

    n: int
    survived: int
    certified: int = 0
    looks: tuple[FamilyLook, ...] = ()
    black_box: bool = False

    @property
    def open(self) -> int:
        """How many survivors nothing certifies."""
        return self.survived - self.certified

    @property
    def worst(self) -> FamilyLook | None:
        """The look that leaves the most open."""
        return max(self.looks, key=lambda one: (one.bound, -one.asked), default=None)

    @property
    def proved(self) -> float:
        """Survivors for each one that nothing certifies: 1 where nothing is certified."""
        return self.survived / self.open if self.open else 1.0

    @property
    def resolution(self) -> float | None:
        """The share of the images that may fall unseen: the largest of the bounds, None where no family looked."""
        if self.worst is None:
            return None if self.open else 0.0
        return self.worst.bound

    @property
    def seen(self) -> int:
        """How many survivors a single family broke at most."""
        return max((one.broken for one in self.looks), default=0)

    @property
    def few(self) -> bool:
        """Whether the images are too few to be trusted, however closely they were looked at."""
        return self.open > 0 and self.n < FEWEST

    @property
    def coarse(self) -> bool:
        """Whether too few survivors were looked at to be trusted."""
        return self.resolution is None or self.resolution > RESOLUTION


def refuting(asked: float) -> float:
    """Return how many of `asked` survivors must break to refute: two, and one in a hundred."""
    return max(LEAST, SHARE * asked)


BLACK_BOX = "a black box: no white-box twin was judged on it"


def judge(
    findings: Sequence[Finding], survived: int, asked: int, broken: int, limits: Limits, *, stopped: bool = False
) -> str:
    """Return the verdict on a number of whose `survived` samples `asked` met stronger attacks, which broke `broken`.

    Where nothing survived the number cannot be too high; only a weak attack's is not trusted even then. An escalation
    that was `stopped` has not looked at all that it was meant to: nothing is trusted on it. Nor is a number of which
    half as many broke as would refute it, one of too few images, or one that too few survivors were looked at for; nor
    any of a black box, which was only asked: what follows gradients may leave far less.
    """
    # what is certified withstood more than any attack: it counts among the survivors that were asked
    if asked and broken >= refuting(asked * limits.proved):
        return REFUTED
    doubted = bool(flags(findings)) if survived else any(one.weak for one in flagging(findings))
    broke = 2 * max(broken, limits.seen) >= refuting(limits.survived) if limits.open else False
    return SUSPECT if doubted or stopped or broke or limits.few or limits.coarse or limits.black_box else TRUSTED


def reason(
    findings: Sequence[Finding],
    attempts: Sequence[Attempt],
    verdict: str,
    limits: Limits,
    *,
    stopped: bool = False,
    settle: str = "",
    twin: str = "",
) -> str:
    """Return the verdict in one sentence: the first cause, what proves it, what was left out, what could be missed.

    `settle` is the command that would look closer, `twin` what would say more of a black box.
    """
    causes = [CHECKS[one.check].cause for one in flags(findings)]
    rest = _left_out(attempts, stopped=stopped)
    if verdict == TRUSTED:
        if causes:
            return "Nothing was left standing: it cannot be too high."
        return f"Every mandatory check passed{rest}{_resolved(limits)}."
    broken = max(sum(one.broken for one in attempts), limits.seen if verdict == SUSPECT else 0)
    if verdict == SUSPECT:
        more = f"{broken} more broke, too few to refute" if broken else "nothing more was broken"
        own = [f"{causes[0]}; {more}"] if causes else [f"no check flags; {more}"] if broken or stopped else []
        if limits.black_box:
            own = [f"{BLACK_BOX}; {'; '.join(own) or more}"]
        if limits.few:
            own.append(_few(limits))
        elif limits.coarse and not causes and not limits.black_box:
            own.append(_coarse(limits, settle))
        told = "; ".join(own) or more
        return f"{told[0].upper()}{told[1:]}{rest}.{f' To know more, {twin}.' if limits.black_box and twin else ''}"
    cause = f"{causes[0][0].upper()}{causes[0][1:]}" if causes else "A stronger attack finds more"
    best = max(attempts, key=lambda one: one.broken)
    return f"{cause}; {best.name} breaks {best.broken} of {best.asked} survivors{rest}."


def _few(limits: Limits) -> str:
    low, high = wilson(limits.survived, limits.n)
    return (
        f"{limits.n} images are too few to be trusted: what withstands is {100 * low:.0f} to {100 * high:.0f} % of all "
        f"such images, and what happens on one in twenty need not show on any; evaluate {FEWEST} or more (--limit 200)"
    )


def _coarse(limits: Limits, settle: str) -> str:
    worst = limits.worst
    could = "no family of attacks could look at it" if worst is None else _could(worst, limits)
    return f"looked at too few: {could}" + (f"; `{settle}` would settle it" if settle else "")


def _resolved(limits: Limits) -> str:
    worst = limits.worst
    if worst is None:
        return ""
    if all(one.asked == one.population for one in limits.looks) and worst.bound == 0:
        tried = _listed([FAMILIES[one.family] for one in limits.looks])
        return f"; each of the {limits.open} survivors withstood {tried}"
    return f"; {_could(worst, limits)}"


def _could(worst: FamilyLook, limits: Limits) -> str:
    seen = f"of {worst.asked} survivors looked at {worst.broken or 'none'} broke"
    return (
        f"at most {100 * worst.bound:.1f} points of the {100 * limits.open / limits.n:.1f} % could fall to "
        f"{FAMILIES[worst.family]} without our having seen it ({seen})"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _left_out(attempts: Sequence[Attempt], *, stopped: bool) -> str:
    names = [one.name for one in attempts if one.skipped]
    if not names and not stopped:
        return ""
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    tried = f"{named} {'was' if len(names) == 1 else 'were'} tried on every survivor" if names else "its end"
    if stopped:
        return f"; the escalation was stopped before {tried}"
    return f"; the limit of passes was reached before {tried}"
