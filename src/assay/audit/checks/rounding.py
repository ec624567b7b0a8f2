"""Gradients that float32 rounds away."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, percent, unasked
from assay.audit.evidence import Evidence

THRESHOLD = 0.9


def rounding(evidence: Evidence) -> Seen:
    """Flag where the signs of the cross-entropy's gradient in float32 are often not those in float64.

    A copy of the model computes the gradients of up to 64 images in float64. The median over the images of the share of
    values whose sign is the same counts: a flag needs less than 90 %, and an evaluation that climbs the cross-entropy
    alone. Where the two highest logits are more than 16.6 apart, float32 rounds the softmax to 1, and the
    cross-entropy's gradient with it.
    """
    seen = evidence.sight
    if seen.agreement is None:
        return unasked("the model does not compute in float64, or has no gradient")
    blind = "cross_entropy" in seen.climbed and len(seen.climbed) == 1
    return Seen(
        seen.agreement, THRESHOLD, seen.agreement < THRESHOLD and blind, seen.n,
        f"{percent(seen.agreement)} of the signs of the cross-entropy's gradient are the same in float32 and in "
        f"float64; {percent(seen.saturated)} of images have a gap of logits above 16.6, where float32 rounds the "
        "softmax.",
    )  # fmt: skip
