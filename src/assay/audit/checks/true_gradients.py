"""Whether autograd tells the slopes that the model has."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, percent
from assay.audit.evidence import Evidence

ALIGNED, STEADY = 0.5, 0.1


def true_gradients(evidence: Evidence) -> Seen:
    """Flag where slopes along random directions are not those that the gradient tells."""
    seen = evidence.slopes
    if seen.alignment is None:
        return Seen(
            0.0, ALIGNED, True, seen.n, "The model's output has no gradient: it is detached on its way.",
            "Attack past what detaches it (BPDA), or without gradients.",
        )  # fmt: skip
    return Seen(
        seen.alignment, ALIGNED, seen.alignment < ALIGNED, seen.n,
        f"Slopes told by autograd and measured by finite differences have a median cosine of {seen.alignment:.2f}.",
        "The gradient is not that of the model: something on the way rounds, is detached, or is random.",
    )  # fmt: skip


def steady_answers(evidence: Evidence) -> Seen:
    """Tell how much the margin changes within four grey levels (Pintor et al. 2022)."""
    seen = evidence.slopes
    return Seen(
        seen.instability, STEADY, seen.instability > STEADY, seen.n,
        f"Within 4 grey levels of an image its margin changes by {percent(seen.instability)} on average.",
        "Smooth the gradient: average it over points around (averaged), or over the model's randomness (eot).",
    )  # fmt: skip
