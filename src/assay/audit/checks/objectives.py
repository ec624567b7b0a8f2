"""Whether another objective, at the same number of steps, breaks what the evaluation left standing."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, enough, unasked
from assay.audit.evidence import Evidence

SHARE = 0.05


def objectives(evidence: Evidence) -> Seen:
    """Flag where twenty steps on the best objective break more survivors than twenty on the cross-entropy.

    PGD climbs the cross-entropy, the margin and a rescaled cross-entropy, each from the same starts on the same images,
    up to 32 that the evaluation left standing; an image broken anywhere on the way counts. A flag needs 5 % more of the
    survivors, and two images.
    """
    seen = evidence.paths
    if not seen.broken:
        return unasked("nothing was left standing, or PGD does not work here")
    plain = seen.broken.get("cross_entropy", 0)
    best = max(seen.broken, key=lambda name: seen.broken[name])
    more = seen.broken[best] - plain
    return Seen(
        more / seen.asked, SHARE, enough(more, seen.asked, SHARE), seen.asked,
        f"Of {seen.asked} survivors, twenty steps on the {best.replace('_', ' ')} broke {seen.broken[best]}, on the "
        f"cross-entropy {plain}.",
        f"Attack with objective={best}.",
    )  # fmt: skip
