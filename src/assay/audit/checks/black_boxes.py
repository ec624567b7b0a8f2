"""Whether attacks without gradients break what the evaluation left standing."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, enough, told, unasked
from assay.audit.evidence import Evidence

SHARE = 0.02


def black_boxes(evidence: Evidence) -> Seen:
    """Flag where scores, labels or a twin alone break survivors (Athalye et al. 2018; Carlini et al. 2019)."""
    seen = evidence.black_box
    if not seen.broken or not seen.asked:
        return unasked("nothing was left standing, or there is no such attack in this norm")
    best = max(seen.broken, key=lambda name: seen.broken[name])
    return Seen(
        seen.broken[best] / seen.asked, SHARE, enough(seen.broken[best], seen.asked, SHARE), seen.asked,
        told(seen.broken, seen.asked),
        "Who sees the gradient must do no worse than who does not: the gradients are masked; see the other findings.",
    )  # fmt: skip
