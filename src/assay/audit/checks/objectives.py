"""Whether another objective, at the same number of steps, breaks what the evaluation left standing."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, enough, unasked
from assay.audit.evidence import Evidence

SHARE = 0.05


def objectives(evidence: Evidence) -> Seen:
    """Flag where twenty steps on the best objective break more survivors than twenty on the cross-entropy."""
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
