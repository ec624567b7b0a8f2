"""Whether other attacks, or more of the same, break what the evaluation left standing."""

from __future__ import annotations

from assay.audit.checks.finding import CheckResult, beaten, enough, unasked
from assay.audit.evidence import Evidence

SIMPLE, NEAREST = 0.01, 0.02


def simple_attacks(evidence: Evidence) -> CheckResult:
    """Flag where one gradient step or random points break survivors of the evaluation (Athalye et al. 2018).

    One step of the size of the budget (FGSM in Linf, FGM in other norms) and 8 random points of the ball are tried on
    up to 200 survivors. What the better of the two breaks counts: a flag needs 1 % of the survivors, and two images.
    """
    return beaten(evidence.simple, SIMPLE)


def minimum_norm(evidence: Evidence) -> CheckResult:
    """Flag where a minimum-norm attack breaks survivors of the evaluation.

    It walks to the boundary from the image, where the evaluation may have climbed inside the ball alone: DDN in L2,
    PDPGD in L1, FMN in Linf and L0, 60 steps each on up to 50 survivors. A flag needs 2 % of them, and two images.
    """
    return beaten(evidence.nearest, NEAREST)


BLACK_BOX = 0.02


def black_boxes(evidence: Evidence) -> CheckResult:
    """Flag where scores, labels or a twin alone break survivors (Athalye et al. 2018; Carlini et al. 2019).

    Square asks for scores, 60 times for each of up to 50 survivors; `standard` and `thorough` audits ask ten times as
    often, and HopSkipJump asks for labels. Where an undefended twin is given, what MI-FGSM finds on it is tried on the
    model. What the best of them breaks counts: a flag needs 2 % of the survivors, and two images.
    """
    return beaten(evidence.black_box, BLACK_BOX)


GUIDED, WIDE = 0.02, 0.02


def inside(evidence: Evidence) -> CheckResult:
    """Flag where the slopes of something inside the model lead to images that break survivors of the evaluation.

    The parts of the model are watched in one pass. What takes images and gives as many scores as there are classes is a
    network inside; of the last hidden layer of rows the class means make one; parts that torch does not know get slopes
    as wide as what enters them varies. Each of these leads ten steps of PGD on the margin, for 10 to 50 survivors, by
    the mean of the slopes at the point and at three around it; the model itself judges every step. What the best of
    them breaks counts: a flag needs 2 % of the survivors, and two images.
    """
    return beaten(evidence.guided, GUIDED)


def neighbourhoods(evidence: Evidence) -> CheckResult:
    """Flag where gradients of a neighbourhood as wide as the budget lead to images that break survivors.

    The gradient of the margin is averaged over five random points around, whose distance is about that of the budget:
    small steep waves in front of the true slope average out. Ten steps of PGD follow it, for 10 to 50 survivors. A
    flag needs 2 % of them, and two images.
    """
    return beaten(evidence.wide, WIDE)


OBJECTIVE = 0.05


def objectives(evidence: Evidence) -> CheckResult:
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
    return CheckResult(
        more / seen.asked, OBJECTIVE, enough(more, seen.asked, OBJECTIVE), seen.asked,
        f"Of {seen.asked} survivors, twenty steps on the {best.replace('_', ' ')} broke {seen.broken[best]}, on the "
        f"cross-entropy {plain}.",
        f"Attack with objective={best}.",
    )  # fmt: skip


EFFORT = 0.02


def more_effort(evidence: Evidence) -> CheckResult:
    """Flag where the evaluation, repeated from other starts with twice the steps, breaks survivors.

    The evaluation's own attacks are repeated on up to 50 images that they left standing. A flag needs 2 % of the
    survivors, and two images.
    """
    seen = evidence.again
    if not seen.broken or not seen.asked:
        return unasked("nothing was left standing, or the attack looks at other models alone")
    broken = seen.broken["again"]
    return CheckResult(
        broken / seen.asked, EFFORT, enough(broken, seen.asked, EFFORT), seen.asked,
        f"Of {seen.asked} survivors, the evaluation's own attacks broke {broken} more from other starts with twice the "
        "steps.",
    )  # fmt: skip


def silent_success(evidence: Evidence) -> CheckResult:
    """Tell how many images were broken on the way and whole at the end; Assay's numbers count them as broken.

    Twenty steps of PGD on each of three objectives are watched, on up to 32 survivors; the objective with the most
    such images counts. A single one is noted.
    """
    seen = evidence.paths
    if not seen.asked or not seen.losses:
        return unasked("nothing was left standing")
    return CheckResult(
        seen.silent / seen.asked, 0.0, seen.silent > 0, seen.asked,
        f"{seen.silent} of {seen.asked} images were adversarial on the way and no longer at the end of twenty steps.",
    )  # fmt: skip
