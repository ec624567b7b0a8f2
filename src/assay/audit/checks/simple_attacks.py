"""Whether a single step or noise breaks what an iterative attack left standing."""

from __future__ import annotations

from assay.audit.checks.finding import Seen, beaten
from assay.audit.evidence import Evidence

SHARE = 0.01
REMEDY = "A stronger attack must not lose to a weaker one: look for gradients that lie, a wrong step, too few steps."


def simple_attacks(evidence: Evidence) -> Seen:
    """Flag where one gradient step or random points break survivors of the evaluation (Athalye et al. 2018)."""
    return beaten(evidence.simple, SHARE, REMEDY)
