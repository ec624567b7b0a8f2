"""How far the nearest adversarial images are, compared with an undefended twin."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from assay.audit.probes.nearest import STEPS, smallest
from assay.audit.subject import Subject
from assay.core.compose import Method, run
from assay.core.errors import ModelError
from assay.core.oracle import Oracle
from assay.core.search import Keeps


@dataclasses.dataclass(frozen=True)
class Twins:
    """Median distances to the nearest adversarial image that is found, of the model and of its undefended twin."""

    n: int
    model: float
    twin: float


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
    return Twins(len(few.survived), float(own.median()), float(other.median()))


def _sizes(subject: Subject, method: Method, oracle: Oracle) -> Tensor:
    problem = dataclasses.replace(subject.under(torch.inf), oracle=oracle)
    found = run(method, problem, subject.fold("twin"), keeps=Keeps.SMALLEST)
    return torch.where(found.success, found.size, problem.threat.extent(problem.x))
