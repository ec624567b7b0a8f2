"""Whether there are gradients to follow, and whether they are those of the model."""

from __future__ import annotations

from assay.audit.checks.finding import CheckResult, percent, unasked
from assay.audit.evidence import Evidence

ZERO = 0.05


def zero_gradients(evidence: Evidence) -> CheckResult:
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
    if seen.edges > max(value, ZERO):
        return CheckResult(
            seen.edges, ZERO, True, seen.n,
            f"On {percent(seen.edges)} of images hardly any value at the edge of the box has a gradient, though most "
            "others have one: the model cuts its input there.",
            "An attack moves none of these values: take the gradient a hair inside the box.",
        )  # fmt: skip
    others = [other for other, share in seen.zero.items() if share is not None and share <= ZERO]
    in_double = "" if seen.zero_in_double is None else f" ({percent(seen.zero_in_double)} in float64)"
    remedy = f"climb the {others[0]} instead" if others else "attack past what cuts the gradient, or without gradients"
    return CheckResult(
        value, ZERO, value > ZERO, seen.n,
        f"The gradient of the {name} is exactly zero on {percent(value)} of images{in_double}; the median gap between "
        f"the two highest logits is {seen.median_gap:.3g}.",
        f"An attack on it stands still: {remedy}.",
    )  # fmt: skip


ROUNDED = 0.9


def rounding(evidence: Evidence) -> CheckResult:
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
    return CheckResult(
        seen.agreement, ROUNDED, seen.agreement < ROUNDED and blind, seen.n,
        f"{percent(seen.agreement)} of the signs of the cross-entropy's gradient are the same in float32 and in "
        f"float64; {percent(seen.saturated)} of images have a gap of logits above 16.6, where float32 rounds the "
        "softmax.",
    )  # fmt: skip


ALIGNED, STEADY = 0.5, 0.1


def true_gradients(evidence: Evidence) -> CheckResult:
    """Flag where slopes along random directions are not those that the gradient tells.

    Around each of up to 16 images the margin is measured a small step ahead and back along 8 random directions, and the
    slopes are compared with those that autograd's gradient tells. The median of the cosines counts: it is about 1 for a
    smooth model, and a flag needs less than 0.5. A model without any gradient has 0; one that is known to give none
    (scores or labels alone) is not asked. Behind a defence whose gradient is known to be that of something else, which
    stands in for it, the value is told and flags nothing: planted solutions and the attacks from outside say whether it
    leads anywhere.
    """
    seen = evidence.slopes
    if not seen.given:
        return unasked("the model gives no gradients")
    if seen.alignment is None:
        return CheckResult(
            0.0, ALIGNED, True, seen.n, "The model's output has no gradient: it is detached on its way.",
            "Attack past what detaches it (BPDA), or without gradients.",
        )  # fmt: skip
    stands_in = f" What stands in for the gradient: {', '.join(evidence.stands_in)}." if evidence.stands_in else ""
    return CheckResult(
        seen.alignment, ALIGNED, seen.alignment < ALIGNED and not stands_in, seen.n,
        f"Slopes told by autograd and measured by finite differences have a median cosine of {seen.alignment:.2f}."
        + stands_in,
    )  # fmt: skip


def steady_answers(evidence: Evidence) -> CheckResult:
    """Tell how much the margin changes within four grey levels (Pintor et al. 2022).

    The margin of each of up to 16 images is compared with that at 8 random points within 4/255 of it. The change is
    relative to the margin, at most 100 % an image; a mean of more than 10 % is noted. Where it is high, the gradient at
    a point says little about the next point.
    """
    seen = evidence.slopes
    return CheckResult(
        seen.instability, STEADY, seen.instability > STEADY, seen.n,
        f"Within 4 grey levels of an image its margin changes by {percent(seen.instability)} on average.",
    )  # fmt: skip
