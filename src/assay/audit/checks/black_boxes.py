"""Whether attacks without gradients break what the evaluation left standing."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, beaten
from assay.audit.evidence import Evidence

SHARE = 0.02


def black_boxes(evidence: Evidence) -> Seen:
    """Flag where scores, labels or a twin alone break survivors (Athalye et al. 2018; Carlini et al. 2019).

    Square asks for scores, 60 times for each of up to 50 survivors; `standard` and `thorough` audits ask ten times as
    often, and HopSkipJump asks for labels. Where an undefended twin is given, what MI-FGSM finds on it is tried on the
    model. What the best of them breaks counts: a flag needs 2 % of the survivors, and two images.
    """
    return beaten(evidence.black_box, SHARE)
