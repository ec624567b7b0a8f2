"""The nearest adversarial image, found from the image outwards, not from the surface of the ball."""

from __future__ import annotations

from assay.attacks import ATTACKS, build
from assay.audit.probes.attacks import Tries, tries
from assay.audit.subject import Subject
from assay.core.compose import Method

STEPS = 60


def smallest(norm: str) -> Method | None:
    """Return the minimum-norm attack that needs the fewest steps in a norm, with 60 of them, or None.

    With few steps FMN overestimates on networks trained in Linf: its radius needs longer to come back from where the
    box blocks its way.
    """
    if norm == "l2":
        return build("ddn", steps=STEPS)
    if norm == "l1":
        return build("pdpgd", steps=STEPS, step_size=0.5)
    return build("fmn", steps=STEPS) if norm in ATTACKS["fmn"].norms else None


def nearest(subject: Subject) -> Tries:
    """Look for smallest perturbations: 61 passes for each of up to 50 survivors."""
    few = subject.some("nearest", STEPS + 1, 50, survivors=True)
    return tries(few, {"a minimum-norm attack": smallest(subject.norm)})
