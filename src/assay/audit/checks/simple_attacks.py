"""Whether a single step or noise breaks what an iterative attack left standing."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, beaten
from assay.audit.evidence import Evidence

SHARE = 0.01


def simple_attacks(evidence: Evidence) -> Seen:
    """Flag where one gradient step or random points break survivors of the evaluation (Athalye et al. 2018).

    One step of the size of the budget (FGSM in Linf, FGM in other norms) and 8 random points of the ball are tried on
    up to 200 survivors. What the better of the two breaks counts: a flag needs 1 % of the survivors, and two images.
    """
    return beaten(evidence.simple, SHARE)
