"""Gradients that float32 rounds away."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, percent, unasked
from assay.audit.evidence import Evidence

THRESHOLD = 0.9


def rounding(evidence: Evidence) -> Seen:
    """Flag where the signs of the cross-entropy's gradient in float32 are often not those in float64."""
    seen = evidence.sight
    if seen.agreement is None:
        return unasked("the model does not compute in float64, or has no gradient")
    blind = "cross_entropy" in seen.climbed and len(seen.climbed) == 1
    return Seen(
        seen.agreement, THRESHOLD, seen.agreement < THRESHOLD and blind, seen.n,
        f"{percent(seen.agreement)} of the signs of the cross-entropy's gradient are the same in float32 and in "
        f"float64; {percent(seen.saturated)} of images have a gap of logits above 16.6, where float32 rounds the "
        "softmax.",
        "Climb the margin, the DLR or a rescaled cross-entropy, whose gradients do not depend on the scale of logits.",
    )  # fmt: skip
