"""What the forward pass does: randomness, gradients of its own, probabilities."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, percent
from assay.audit.evidence import Evidence


def randomness(evidence: Evidence) -> Seen:
    """Flag a model that answers differently when asked again, where no attack of the evaluation averages over that."""
    seen = evidence.answers
    averaged = any(leaf.averages for leaf in evidence.leaves)
    return Seen(
        seen.differ, 0.0, seen.differ > 0 and not averaged, seen.n,
        f"The model answers differently when asked again about {percent(seen.differ)} of images"
        + (", and the evaluation averages over that." if averaged and seen.differ else "."),
        "Average the gradient over the randomness: eot=20.",
    )  # fmt: skip


def company(evidence: Evidence) -> Seen:
    """Tell whether an image's answer depends on the others of the batch."""
    seen = evidence.answers
    return Seen(
        seen.company, 0.0, seen.company > 0 and seen.differ == 0, seen.n,
        f"The answer depends on the batch for {percent(seen.company)} of images.",
        "Put the model in eval mode, or ask about one image at a time (batch=1).",
    )  # fmt: skip


def dynamic(evidence: Evidence) -> Seen:
    """Flag a forward pass that computes gradients of its own or changes the model."""
    seen = evidence.answers
    told = []
    if seen.gradients_inside:
        told.append(f"computes {seen.gradients_inside} gradients itself")
    if seen.changes:
        told.append("changes the model's own numbers")
    return Seen(
        float(seen.gradients_inside + seen.changes), 0.0, bool(told), seen.n,
        "The forward pass " + (" and ".join(told) or "computes no gradients and leaves the model as it is") + ".",
        "Attack the optimisation as if it were the identity (BPDA), and without gradients.",
    )  # fmt: skip


def probabilities(evidence: Evidence) -> Seen:
    """Tell whether the model returns probabilities."""
    seen = evidence.answers
    flag = evidence.probabilities or seen.probabilities
    return Seen(
        float(flag), 0.0, flag, seen.n,
        "The model returns " + ("probabilities; a saturated softmax hides the gradient." if flag else "logits."),
        "Return logits.",
    )  # fmt: skip
