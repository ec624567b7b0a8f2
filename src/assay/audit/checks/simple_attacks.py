"""Whether a single step, noise or a minimum-norm attack breaks what the evaluation left standing."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, beaten
from assay.audit.evidence import Evidence

SHARE, NEAREST = 0.01, 0.02


def simple_attacks(evidence: Evidence) -> Seen:
    """Flag where one gradient step or random points break survivors of the evaluation (Athalye et al. 2018).

    One step of the size of the budget (FGSM in Linf, FGM in other norms) and 8 random points of the ball are tried on
    up to 200 survivors. What the better of the two breaks counts: a flag needs 1 % of the survivors, and two images.
    """
    return beaten(evidence.simple, SHARE)


def minimum_norm(evidence: Evidence) -> Seen:
    """Flag where a minimum-norm attack breaks survivors of the evaluation.

    It walks to the boundary from the image, where the evaluation may have climbed inside the ball alone: DDN in L2,
    PDPGD in L1, FMN in Linf and L0, 60 steps each on up to 50 survivors. A flag needs 2 % of them, and two images.
    """
    return beaten(evidence.nearest, NEAREST)
