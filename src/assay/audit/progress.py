"""How far an audit is, for whoever shows it, and what an escalation may spend. Nothing is printed in this room."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

STAGES = ("evidence", "looks", "escalation")
"""The stages of an audit; the later ones are left out where there is nothing to do."""


@dataclasses.dataclass(frozen=True)
class AuditProgress:
    """How far the audit of one model on one data set under one threat is.

    It gathers the evidence first (`stage` "evidence"); then each family of attacks looks at what may be trusted
    ("looks"); and where a check flags or something broke, it escalates ("escalation"). All at `budget`, and `tried`
    names the attack. `passes`, their upper bound `most`, the finished `share` (0 to 1) and `seconds_left` (an upper
    bound at the speed so far; None before one is known) are those of the stage, all budgets together.
    """

    stage: str
    about: str
    budget: str
    tried: str
    passes: int
    most: int
    share: float
    seconds_left: float | None

    @property
    def doing(self) -> str:
        """The stage, the budget and the attack, in words."""
        return " ".join(part for part in (self.stage, "at", self.budget, self.tried and f"({self.tried})") if part)


OnAuditProgress = Callable[[AuditProgress], None]


class AuditMeter:
    """Counts the passes of an audit by stage and budget; of a budget that is left behind nothing remains to be done."""

    def __init__(
        self, about: str, on_progress: OnAuditProgress, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Tell `on_progress` about the audit of `about`, a model on data under a threat."""
        self._about, self._on_progress, self._clock = about, on_progress, clock
        self._stage, self._most, self._began = "", [0.0], clock()
        self._at, self._of_budget, self._passes = 0, 0, 0
        self._budget = self._tried = ""
        self._speed: float | None = None

    def begin(self, stage: str, most: Sequence[float], budget: str) -> None:
        """Begin a stage that may take `most` passes at each budget, the first of which is `budget`."""
        # until something is counted the speed is that of the stage before
        self._speed, self._began = self._seconds_per_pass, self._clock()
        self._stage, self._most, self._passes = stage, list(most), 0
        self.go_on(0, budget)

    def go_on(self, at: int, budget: str) -> None:
        """Go on to the budget in place `at`; those before are done."""
        self._at, self._of_budget, self._budget, self._tried = at, 0, budget, ""
        self._tell()

    def hear(self, tried: str, passes: int) -> None:
        """Count passes, of the attack `tried`."""
        self._tried = tried
        self._passes += passes
        self._of_budget += passes
        self._tell()

    def end(self) -> None:
        """End a stage, whatever it took."""
        self.go_on(len(self._most), self._budget)

    @property
    def _seconds_per_pass(self) -> float | None:
        return (self._clock() - self._began) / self._passes if self._passes else self._speed

    def _tell(self) -> None:
        whole = sum(self._most)
        done = sum(self._most[: self._at]) + min(self._of_budget, *self._most[self._at : self._at + 1], whole)
        share = done / whole if whole else 1.0
        speed = self._seconds_per_pass
        facts = (self._passes, math.ceil(whole), share, None if speed is None else (whole - done) * speed)
        self._on_progress(AuditProgress(self._stage, self._about, self._budget, self._tried, *facts))


def _silent(tried: str, passes: int) -> None:
    return None


@dataclasses.dataclass
class PassLimit:
    """What an escalation may spend: `most` passes, of which it `spent` some; `hear` is told of each and its attack."""

    most: float = math.inf
    spent: int = 0
    hear: Callable[[str, int], None] = _silent
    tried: str = ""

    def pays(self, cost: int, count: int) -> int:
        """Return for how many of `count` survivors the rest pays, at `cost` passes each."""
        return min(count, max(0, int((self.most - self.spent) / cost))) if math.isfinite(self.most) else count

    def spend(self, passes: int) -> None:
        """Note passes of the attack that is being tried."""
        self.spent += passes
        self.hear(self.tried, passes)


__all__ = ["STAGES", "AuditMeter", "AuditProgress", "OnAuditProgress", "PassLimit"]
