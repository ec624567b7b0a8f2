"""Whether more steps and other starts still help."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, enough, unasked
from assay.audit.evidence import Evidence

SHARE = 0.02


def more_effort(evidence: Evidence) -> Seen:
    """Flag where the evaluation, repeated from other starts with twice the steps, breaks survivors.

    The evaluation's own attacks are repeated on up to 50 images that they left standing. A flag needs 2 % of the
    survivors, and two images.
    """
    seen = evidence.again
    if not seen.broken or not seen.asked:
        return unasked("nothing was left standing, or the attack looks at other models alone")
    broken = seen.broken["again"]
    return Seen(
        broken / seen.asked, SHARE, enough(broken, seen.asked, SHARE), seen.asked,
        f"Of {seen.asked} survivors, the evaluation's own attacks broke {broken} more from other starts with twice the "
        "steps.",
    )  # fmt: skip


def silent_success(evidence: Evidence) -> Seen:
    """Tell how many images were broken on the way and whole at the end; Assay's numbers count them as broken.

    Twenty steps of PGD on each of three objectives are watched, on up to 32 survivors; the objective with the most
    such images counts. A single one is noted.
    """
    seen = evidence.paths
    if not seen.asked or not seen.losses:
        return unasked("nothing was left standing")
    return Seen(
        seen.silent / seen.asked, 0.0, seen.silent > 0, seen.asked,
        f"{seen.silent} of {seen.asked} images were adversarial on the way and no longer at the end of twenty steps.",
    )  # fmt: skip
