"""Whether attacks of two families, one of them iterative and by gradient, stand behind the number."""

from __future__ import annotations

from assay.audit.checks.finding import Seen
from assay.audit.evidence import Evidence
from assay.audit.subject import GRADIENT_STEPS


def families(evidence: Evidence) -> Seen:
    """Flag where no iterative gradient attack ran, or no attack without gradients, in evaluation and audit together.

    An attack of the evaluation is an iterative one where it looks at 10 gradients or more. Without gradients are
    attacks that see scores or labels alone, and adversarial images of another model; those of the audit itself count,
    see `black boxes`.
    """
    iterative = [leaf for leaf in evidence.leaves if leaf.family == "gradient" and leaf.steps >= GRADIENT_STEPS]
    others = {leaf.family for leaf in evidence.leaves} - {"gradient"}
    # where nothing was left standing there was nothing to ask about
    others |= set(evidence.black_box.broken) or ({"nothing left"} if not evidence.survived else set())
    ran = bool(iterative) + bool(others)
    longest = max((leaf.steps for leaf in evidence.leaves if leaf.family == "gradient"), default=0)
    return Seen(
        float(ran), 2.0, ran < 2, evidence.n,
        f"The longest gradient attack of the evaluation makes {longest} steps; without gradients ran: "
        f"{', '.join(sorted(others)) or 'none'}.",
    )  # fmt: skip
