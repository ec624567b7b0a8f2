"""What the forward pass does: randomness, gradients of its own, probabilities."""

from __future__ import annotations

from assay.audit.checks.finding import CheckResult, percent
from assay.audit.evidence import Evidence


def randomness(evidence: Evidence) -> CheckResult:
    """Flag a model that answers differently when asked again, where no attack of the evaluation averages over that.

    Up to 16 images are shown twice, together and in the same order. Answers differ where a logit changes by more than
    a ten-thousandth of the logits' size; rounding changes them by less. An attack averages where it climbs the
    expectation over the randomness (EOT).
    """
    seen = evidence.answers
    averaged = any(leaf.averages for leaf in evidence.leaves)
    return CheckResult(
        seen.differ, 0.0, seen.differ > 0 and not averaged, seen.n,
        f"The model answers differently when asked again about {percent(seen.differ)} of images"
        + (", and the evaluation averages over that." if averaged and seen.differ else "."),
    )  # fmt: skip


def company(evidence: Evidence) -> CheckResult:
    """Tell whether an image's answer depends on the others of the batch.

    Up to 16 images are shown together and one at a time, and their logits compared as for `randomness`. A model that
    already answers differently when asked again is not noted here.
    """
    seen = evidence.answers
    return CheckResult(
        seen.company, 0.0, seen.company > 0 and seen.differ == 0, seen.n,
        f"The answer depends on the batch for {percent(seen.company)} of images.",
    )  # fmt: skip


def dynamic(evidence: Evidence) -> CheckResult:
    """Flag a forward pass that computes gradients of its own or changes the model.

    Calls of autograd are counted while the model answers about up to 16 images. It changes where its parameters and
    buffers have another sum after the answers than before; that counts as one more. An answer that comes out of an
    optimisation has a gradient of its own, which autograd need not tell.
    """
    seen = evidence.answers
    told = []
    if seen.gradients_inside:
        told.append(f"computes {seen.gradients_inside} gradients itself")
    if seen.changes:
        told.append("changes the model's own numbers")
    return CheckResult(
        float(seen.gradients_inside + seen.changes), 0.0, bool(told), seen.n,
        "The forward pass " + (" and ".join(told) or "computes no gradients and leaves the model as it is") + ".",
    )  # fmt: skip


def probabilities(evidence: Evidence) -> CheckResult:
    """Tell whether the model returns probabilities.

    It does where it is declared to, and where the outputs for up to 16 images are nowhere negative and sum to 1.
    """
    seen = evidence.answers
    flag = evidence.probabilities or seen.probabilities
    return CheckResult(
        float(flag), 0.0, flag, seen.n,
        "The model returns "
        + ("probabilities; a saturated softmax hides the gradient." if flag else _outputs(seen.labels)),
    )  # fmt: skip


def _outputs(labels: bool) -> str:
    return "labels alone." if labels else "logits."
