"""Gradients that are exactly zero where the evaluation climbs."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, percent, unasked
from assay.audit.evidence import Evidence

THRESHOLD = 0.05


def zero_gradients(evidence: Evidence) -> Seen:
    """Flag where even the best-sighted of the evaluation's objectives has no gradient on more than 5 % of images.

    Every objective that a gradient attack of the evaluation climbs is asked once for its gradient at each of up to 64
    images. An image counts where every value of the gradient is exactly zero, and every image where there is no
    gradient to ask for. Of several objectives the one with the fewest such images counts. An image counts, too, where
    nine tenths of its values at the edge of the box have none though most others have one: a model that cuts its input
    (`x.clamp(0, 1)`, where torch passes nothing at the bound) hides the way into the box.
    """
    seen = evidence.sight
    if not seen.climbed:
        return unasked("no attack of the evaluation uses gradients")
    shares = {name: 1.0 if (share := seen.zero.get(name, 1.0)) is None else share for name in seen.climbed}
    name, value = min(shares.items(), key=lambda pair: pair[1])
    if seen.edges > max(value, THRESHOLD):
        return Seen(
            seen.edges, THRESHOLD, True, seen.n,
            f"On {percent(seen.edges)} of images hardly any value at the edge of the box has a gradient, though most "
            "others have one: the model cuts its input there.",
            "An attack moves none of these values: take the gradient a hair inside the box.",
        )  # fmt: skip
    others = [other for other, share in seen.zero.items() if share is not None and share <= THRESHOLD]
    in_double = "" if seen.zero_in_double is None else f" ({percent(seen.zero_in_double)} in float64)"
    remedy = f"climb the {others[0]} instead" if others else "attack past what cuts the gradient, or without gradients"
    return Seen(
        value, THRESHOLD, value > THRESHOLD, seen.n,
        f"The gradient of the {name} is exactly zero on {percent(value)} of images{in_double}; the median gap between "
        f"the two highest logits is {seen.median_gap:.3g}.",
        f"An attack on it stands still: {remedy}.",
    )  # fmt: skip
