"""How many adversarial images the evaluation finds that are known to be there."""

from __future__ import annotations

from assay.audit.checks.finding import Seen
from assay.audit.evidence import Evidence

THRESHOLD = 0.95


def planted_solutions(evidence: Evidence) -> Seen:
    """Flag where the evaluation finds fewer than 95 % of planted adversarial images (after Zimmermann et al. 2022).

    For up to 32 images the last layer is replaced by a head of two classes for which an adversarial image inside the
    budget is known, and the evaluation's own attacks look for it. The head keeps the gap between the model's two
    highest logits, so that what hides a gradient there hides it here. Where nothing could be planted the check flags
    without a value: an attack that was not seen to find what is there is not trusted to.
    """
    seen = evidence.planted
    if seen is None or not seen.n:
        return Seen(
            None, THRESHOLD, True, 0,
            "Nothing could be planted: the attack looks at other models alone, or the model's features do not vary.",
            "Evaluate with an attack on the model itself, on more images.",
        )  # fmt: skip
    share = seen.found / seen.n
    return Seen(
        share, THRESHOLD, share < THRESHOLD, seen.n,
        f"Of {seen.n} adversarial images planted inside the budget the evaluation found {seen.found}; random points "
        f"found {seen.by_chance}.",
    )  # fmt: skip
