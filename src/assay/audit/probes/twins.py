"""How far the nearest adversarial images are, compared with an undefended twin."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.audit.subject import Subject
from assay.core.compose import run
from assay.core.errors import ModelError
from assay.core.oracle import Oracle
from assay.core.search import Keeps

_STEPS = 60


@dataclasses.dataclass(frozen=True)
class Twins:
    """Median distances to the nearest adversarial image that is found, of the model and of its undefended twin."""

    n: int
    model: float
    twin: float


def twins(subject: Subject) -> Twins | None:
    """Measure both with 60 steps on up to 32 images, of DDN in L2 and of FMN elsewhere; None without a twin."""
    if subject.twin is None or subject.norm not in ATTACKS["fmn"].norms:
        return None
    few = subject.some("twins", 2 * (_STEPS + 1), 32)
    try:
        own, other = _sizes(few, few.meter), _sizes(few, few.meter.of(subject.twin))
    except ModelError:
        return None
    return Twins(len(few.survived), float(own.median()), float(other.median()))


def _sizes(subject: Subject, oracle: Oracle) -> Tensor:
    problem = dataclasses.replace(subject.under(torch.inf), oracle=oracle)
    # FMN's radius needs more steps to come back from where the box blocks its way
    attack = build("ddn" if subject.norm == "l2" else "fmn", steps=_STEPS)
    found = run(attack, problem, subject.fold("twin"), keeps=Keeps.SMALLEST)
    return torch.where(found.success, found.size, problem.threat.extent(problem.x))
