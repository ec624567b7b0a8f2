"""What is asked of models that stand behind defences or refuse images, and of no others."""

from __future__ import annotations

from assay.audit.checks.finding import CheckResult, percent, unasked
from assay.audit.evidence import Evidence
from assay.statistics import wilson

BLIND, FEWEST = 0.05, 5


def detector_gradients(evidence: Evidence) -> CheckResult:
    """Flag where the score that an image is refused by has no gradient on more than 5 % of images.

    Up to 32 images are attacked by twenty steps of PGD on the margin as if nothing were refused. Where the model
    refuses what comes out, the gradient of its score is asked for there: this is where an attack has to follow it; else
    at the image itself. An image counts where every value is exactly zero, and every image where there is no gradient.
    """
    seen = evidence.refusals
    if seen is None:
        return unasked("the model refuses nothing")
    return CheckResult(
        seen.zero, BLIND, seen.zero > BLIND, seen.n,
        f"The gradient of the detector's score is exactly zero on {percent(seen.zero)} of images.",
    )  # fmt: skip


def refusals_alone(evidence: Evidence) -> CheckResult:
    """Flag a detector whose score for an image depends on the other images of the batch.

    Up to 32 images are shown together, one at a time, and among images that an attack on the classes alone has made. A
    score differs where it changes by more than 2 % of the images' median distance from the threshold.
    """
    seen = evidence.refusals
    if seen is None:
        return unasked("the model refuses nothing")
    return CheckResult(
        seen.company, 0.0, seen.company > 0, seen.n,
        f"The detector's score depends on the batch for {percent(seen.company)} of images.",
    )  # fmt: skip


def idle_detector(evidence: Evidence) -> CheckResult:
    """Flag a detector that refuses nothing: no clean image, and nothing that an attack makes that ignores it.

    The clean images are all those of the run. The attack is twenty steps of PGD on the margin of the classes alone, on
    up to 32 images; the share of what it makes wrong that is refused counts, and five such images are needed.
    """
    seen = evidence.refusals
    if seen is None or seen.wrong < FEWEST:
        return unasked("an attack that ignores the detector makes nothing wrong")
    clean = 0 if seen.clean is None else seen.clean.refused
    told = "" if seen.clean is None else f", and {clean} of {seen.clean.n} clean ones"
    return CheckResult(
        seen.refused / seen.wrong, 0.0, not seen.refused and not clean, seen.wrong,
        f"Of {seen.wrong} images that an attack that ignores the detector made wrong it refuses {seen.refused}{told}.",
    )  # fmt: skip


def threshold_drift(evidence: Evidence) -> CheckResult:
    """Tell whether the frozen threshold refuses as many clean images as it was chosen to.

    Noted where the 95 % interval (Wilson) of the share of the run's clean images that are refused does not meet that of
    the share that the threshold was chosen for, which follows from the number of clean images it was chosen on.
    """
    seen = evidence.refusals
    clean = None if seen is None else seen.clean
    if clean is None or clean.fpr is None or not clean.n:
        return unasked("nobody has said how many clean images may be refused")
    low, high = wilson(clean.refused, clean.n)
    least, most = wilson(clean.fpr * clean.held_out, clean.held_out)
    share = clean.refused / clean.n
    return CheckResult(
        share, clean.fpr, high < least or low > most, clean.n,
        f"{percent(share)} of the run's clean images are refused ({percent(low)} to {percent(high)}); the threshold "
        f"was chosen for {percent(clean.fpr)} on {clean.held_out} others ({percent(least)} to {percent(most)}).",
    )  # fmt: skip


def forced_rejection(evidence: Evidence) -> CheckResult:
    """Tell on how many images a refusal can be forced.

    Twenty steps of PGD on the margin, for up to 32 images, count a refusal as a success: the goal `untargeted strict`.
    Robust accuracy with rejection does not count these as broken; whoever needs an answer does. Any is noted.
    """
    seen = evidence.refusals
    if seen is None:
        return unasked("the model refuses nothing")
    share = seen.forced / max(1, seen.n)
    return CheckResult(
        share, 0.0, share > 0, seen.n,
        f"Rejection can be forced on {percent(share)} of images that the model accepts and gets right.",
    )  # fmt: skip


RATIO = 1.25


def elsewhere(evidence: Evidence) -> CheckResult:
    """Tell whether the defence helps in other norms too.

    60 steps of the attack of `minimum norm` look for the smallest perturbation of up to 16 images in two other norms,
    of the model and of the network inside its defences. The smaller ratio of the medians counts; less than 1.25 is
    noted. A defence may well help in one norm alone: this does not touch the verdict.
    """
    seen = evidence.other_norms
    if seen is None or not seen.distances:
        return unasked("the model has no defence to take away")
    ratios = {norm: own / twin if twin else float("inf") for norm, (own, twin) in seen.distances.items()}
    told = "; ".join(
        f"in {norm} at {own:.3g}, without the defence at {twin:.3g}" for norm, (own, twin) in seen.distances.items()
    )
    least = min(ratios.values())
    return CheckResult(
        least, RATIO, least < RATIO, seen.n, f"The nearest adversarial images are at median distances: {told}."
    )
