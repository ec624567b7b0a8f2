"""Whether attacks without gradients break what the evaluation left standing."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, beaten
from assay.audit.evidence import Evidence

SHARE = 0.02
REMEDY = "Who sees the gradient must do no worse than who does not: the gradients are masked; see the other findings."


def black_boxes(evidence: Evidence) -> Seen:
    """Flag where scores, labels or a twin alone break survivors (Athalye et al. 2018; Carlini et al. 2019)."""
    return beaten(evidence.black_box, SHARE, REMEDY)
