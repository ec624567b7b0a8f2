"""Whether a single step or noise breaks what an iterative attack left standing."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, enough, told, unasked
from assay.audit.evidence import Evidence

SHARE = 0.01


def simple_attacks(evidence: Evidence) -> Seen:
    """Flag where one gradient step or random points break survivors of the evaluation (Athalye et al. 2018)."""
    seen = evidence.simple
    if not seen.broken or not seen.asked:
        return unasked("nothing was left standing")
    best = max(seen.broken, key=lambda name: seen.broken[name])
    return Seen(
        seen.broken[best] / seen.asked, SHARE, enough(seen.broken[best], seen.asked, SHARE), seen.asked,
        told(seen.broken, seen.asked),
        "A stronger attack must not lose to a weaker one: look for gradients that lie, a wrong step, too few steps.",
    )  # fmt: skip
