"""The nearest adversarial image, found from the image outwards, and compared with that of an undefended twin."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.audit.probes.attacks import Tries, tries
from assay.audit.subject import Subject
from assay.core.compose import Method, run
from assay.core.errors import ModelError
from assay.core.norms import NORMS
from assay.core.oracle import Oracle
from assay.core.search import Keeps

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


@dataclasses.dataclass(frozen=True)
class Twins:
    """Median distances to the nearest adversarial image that is found, of the model and of its undefended twin.

    `own` says that the twin is what stands inside the model's defences; `eps` is the budget of the number.
    """

    n: int
    model: float
    twin: float
    own: bool = False
    eps: float = 0.0


def twins(subject: Subject) -> Twins | None:
    """Measure both with 60 steps on up to 32 images, see `smallest`; None without a twin."""
    method = smallest(subject.norm)
    if subject.twin is None or method is None:
        return None
    few = subject.some("twins", 2 * (STEPS + 1), 32)
    try:
        own, other = _sizes(few, method, few.meter), _sizes(few, method, few.meter.of(subject.twin))
    except ModelError:
        return None
    eps = float(torch.as_tensor(subject.problem.threat.eps).max())
    return Twins(len(few.survived), float(own.median()), float(other.median()), subject.own_twin, eps)


@dataclasses.dataclass(frozen=True)
class OtherNorms:
    """Median distances as in `Twins`, of `n` images, in norms other than that of the number: (model, twin) each."""

    n: int
    distances: dict[str, tuple[float, float]]


def other_norms(subject: Subject) -> OtherNorms | None:
    """Measure with 60 steps on up to 16 images in each of two other norms; None where no defence says its twin."""
    if not subject.own_twin or subject.twin is None:
        return None
    others = [norm for norm in ("linf", "l2", "l1") if norm != subject.norm][:2]
    few = subject.some("other_norms", len(others) * 2 * (STEPS + 1), 16)
    found = {}
    for norm in others:
        method = smallest(norm)
        assert method is not None, "there is one in each of these"
        threat = dataclasses.replace(few.problem.threat, norm=NORMS[norm])
        here = dataclasses.replace(few, problem=dataclasses.replace(few.problem, threat=threat))
        try:
            own, other = _sizes(here, method, here.meter), _sizes(here, method, here.meter.of(subject.twin))
        except ModelError:
            return None
        found[norm] = float(own.median()), float(other.median())
    return OtherNorms(len(few.survived), found)


def _sizes(subject: Subject, method: Method, oracle: Oracle) -> Tensor:
    problem = dataclasses.replace(subject.under(torch.inf), oracle=oracle)
    found = run(method, problem, subject.fold("twin"), keeps=Keeps.SMALLEST)
    return torch.where(found.success, found.size, problem.threat.extent(problem.x))
