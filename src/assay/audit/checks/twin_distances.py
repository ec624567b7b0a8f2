"""Whether adversarial images are farther away than for an undefended network."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, unasked
from assay.audit.evidence import Evidence

RATIO = 1.25
LEFT = 0.5


def twin_distances(evidence: Evidence) -> Seen:
    """Flag a high accuracy with the nearest adversarial images no farther away than for the undefended twin.

    Asked where a twin is given (`--twin MODEL`). 60 steps of the attack of `minimum norm` look for the smallest
    perturbation of up to 32 images, of the model and of its twin. The ratio of the medians counts: a flag needs less
    than 1.25, and more than half of the images said to withstand.
    """
    seen = evidence.twins
    if seen is None:
        return unasked("no undefended twin was given")
    ratio = seen.model / seen.twin if seen.twin else float("inf")
    high = evidence.survived > LEFT * evidence.n
    return Seen(
        ratio, RATIO, ratio < RATIO and high, seen.n,
        f"The nearest adversarial images are at a median distance of {seen.model:.3g}, for the undefended twin of "
        f"{seen.twin:.3g}; {evidence.survived} of {evidence.n} images are said to withstand.",
    )  # fmt: skip
