"""Whether success grows with the budget, up to everything, and what the distances say."""

from __future__ import annotations

from assay.audit.checks.finding import CheckResult, percent, unasked
from assay.audit.evidence import Evidence

FALL = 0.1
LEFT = 0.1


def growing_budgets(evidence: Evidence) -> CheckResult:
    """Flag where a larger budget makes the evaluation's own objective succeed less often.

    Ten steps of PGD on the first objective that the evaluation climbs, or on the margin where that has several
    gradients, are tried on up to 32 images at 0.5, 1, 2 and 4 times the budget, as far as the box goes. The largest
    fall of the success from a smaller to a larger budget counts: a flag needs more than 10 % of the images, and two.
    """
    seen = evidence.growth
    if not seen.success:
        return unasked("no attack of the evaluation uses gradients that exist")
    highest, fall = 0.0, 0.0
    for share in seen.success:
        fall, highest = max(fall, highest - share), max(highest, share)
    told = ", ".join(f"{percent(share)} at {times:g}" for times, share in zip(seen.budgets, seen.success, strict=True))
    return CheckResult(
        fall, FALL, fall > FALL and fall * seen.n >= 2, seen.n,
        f"Ten steps of PGD succeed on {told} times the budget.",
    )  # fmt: skip


def unbounded(evidence: Evidence) -> CheckResult:
    """Flag where twenty steps in the whole box leave images standing (Carlini et al. 2019: it must reach 100 %).

    PGD climbs the same objective as for `growing budgets`, on up to 32 images. For smaller budgets in Linf it is also
    asked at half of the pixel range, where every image can be made the same grey and no model can be right about more
    than chance; what is left beyond chance counts. The larger of the two shares is the value: a flag needs more than
    10 % of the images, and two.
    """
    seen = evidence.growth
    if seen.unbounded is None:
        return unasked("no attack of the evaluation uses gradients that exist, or the box has no end")
    half = ""
    if seen.half_range is not None:
        half = (
            f", and {percent(seen.half_range)} at half of the pixel range, where every image can be made the same grey "
            f"(chance: {percent(seen.chance)})"
        )
    value = seen.unbounded if seen.half_range is None else max(seen.unbounded, seen.half_range - seen.chance)
    return CheckResult(
        value, LEFT, value > LEFT and value * seen.n >= 2, seen.n,
        f"Twenty steps of PGD on the evaluation's objective leave {percent(seen.unbounded)} in the whole box{half}.",
    )  # fmt: skip


RATIO = 1.25
HIGH = 0.5


def twin_distances(evidence: Evidence) -> CheckResult:
    """Flag a high accuracy with the nearest adversarial images no farther away than for the undefended twin.

    Asked where a twin is given (`--twin MODEL`); that of a model behind defences is the network inside. 60 steps of the
    attack of `minimum norm` look for the smallest perturbation of up to 32 images, of the model and of its twin. The
    ratio of the medians counts: a flag needs less than 1.25, and more than half of the images said to withstand. The
    network inside may be robust itself: there the median of the twin has to lie inside the budget, too.
    """
    seen = evidence.twins
    if seen is None:
        return unasked("no undefended twin was given")
    ratio = seen.model / seen.twin if seen.twin else float("inf")
    high = evidence.survived > HIGH * evidence.n and (not seen.own or seen.twin <= seen.eps)
    return CheckResult(
        ratio, RATIO, ratio < RATIO and high, seen.n,
        f"The nearest adversarial images are at a median distance of {seen.model:.3g}, for the undefended twin of "
        f"{seen.twin:.3g}; {evidence.survived} of {evidence.n} images are said to withstand.",
    )  # fmt: skip
