"""Whether autograd tells the slopes that the model has."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, percent, unasked
from assay.audit.evidence import Evidence

ALIGNED, STEADY = 0.5, 0.1


def true_gradients(evidence: Evidence) -> Seen:
    """Flag where slopes along random directions are not those that the gradient tells.

    Around each of up to 16 images the margin is measured a small step ahead and back along 8 random directions, and the
    slopes are compared with those that autograd's gradient tells. The median of the cosines counts: it is about 1 for a
    smooth model, and a flag needs less than 0.5. A model without any gradient has 0; one that is known to give none
    (scores or labels alone) is not asked.
    """
    seen = evidence.slopes
    if not seen.given:
        return unasked("the model gives no gradients")
    if seen.alignment is None:
        return Seen(
            0.0, ALIGNED, True, seen.n, "The model's output has no gradient: it is detached on its way.",
            "Attack past what detaches it (BPDA), or without gradients.",
        )  # fmt: skip
    return Seen(
        seen.alignment, ALIGNED, seen.alignment < ALIGNED, seen.n,
        f"Slopes told by autograd and measured by finite differences have a median cosine of {seen.alignment:.2f}.",
    )  # fmt: skip


def steady_answers(evidence: Evidence) -> Seen:
    """Tell how much the margin changes within four grey levels (Pintor et al. 2022).

    The margin of each of up to 16 images is compared with that at 8 random points within 4/255 of it. The change is
    relative to the margin, at most 100 % an image; a mean of more than 10 % is noted. Where it is high, the gradient at
    a point says little about the next point.
    """
    seen = evidence.slopes
    return Seen(
        seen.instability, STEADY, seen.instability > STEADY, seen.n,
        f"Within 4 grey levels of an image its margin changes by {percent(seen.instability)} on average.",
    )  # fmt: skip
