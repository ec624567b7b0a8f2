"""Whether the evaluation's attacks cover what an evaluation must: two families, and what is known to be there."""

# shape: a file for each kind of check

from __future__ import annotations

from assay.audit.checks.finding import CheckResult, unasked
from assay.audit.evidence import Evidence
from assay.audit.subject import GRADIENT_STEPS

NO_GRADIENTS = "the model gives no gradients to climb; the verdict says what that means"


def families(evidence: Evidence) -> CheckResult:
    """Flag where no iterative gradient attack ran, or no attack without gradients, in evaluation and audit together.

    An attack of the evaluation is an iterative one where it looks at 10 gradients or more. Without gradients are
    attacks that see scores or labels alone, and adversarial images of another model; those of the audit itself count,
    see `black boxes`. A model that gives scores or labels alone is not asked, unless a white-box twin leads on it.
    """
    iterative = [leaf for leaf in evidence.leaves if leaf.family == "gradient" and leaf.steps >= GRADIENT_STEPS]
    others = {leaf.family for leaf in evidence.leaves} - {"gradient"}
    if not evidence.slopes.given:
        return unasked(NO_GRADIENTS)
    # where nothing was left standing there was nothing to ask about
    others |= set(evidence.black_box.broken) or ({"nothing left"} if not evidence.survived else set())
    ran = bool(iterative) + bool(others)
    longest = max((leaf.steps for leaf in evidence.leaves if leaf.family == "gradient"), default=0)
    return CheckResult(
        float(ran), 2.0, ran < 2, evidence.n,
        f"The longest gradient attack of the evaluation makes {longest} steps; without gradients ran: "
        f"{', '.join(sorted(others)) or 'none'}.",
    )  # fmt: skip


PLANTED = 0.95


def planted_solutions(evidence: Evidence) -> CheckResult:
    """Flag where the evaluation finds fewer than 95 % of planted adversarial images (after Zimmermann et al. 2022).

    For up to 32 images the last layer is replaced by a head of two classes for which an adversarial image inside the
    budget is known, and the evaluation's own attacks look for it. The head keeps the gap between the model's two
    highest logits, so that what hides a gradient there hides it here. Where nothing could be planted the check flags
    without a value: an attack that was not seen to find what is there is not trusted to. Where a model gives scores or
    labels alone the head reads its scores, and the planted image is a random point of the ball; labels hold none.
    """
    seen = evidence.planted
    if not evidence.slopes.given and (seen is None or not seen.n):
        return unasked("the model gives labels alone, in which nothing can be planted")
    if seen is None or not seen.n:
        return CheckResult(
            None, PLANTED, True, 0,
            "Nothing could be planted: the attack looks at other models alone, or the model's features do not vary.",
            "Evaluate with an attack on the model itself, on more images.",
        )  # fmt: skip
    share = seen.found / seen.n
    return CheckResult(
        share, PLANTED, share < PLANTED, seen.n,
        f"Of {seen.n} adversarial images planted inside the budget the evaluation found {seen.found}; random points "
        f"found {seen.by_chance}.",
    )  # fmt: skip
