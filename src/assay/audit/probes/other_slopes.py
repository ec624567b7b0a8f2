"""Slopes other than the model's own at a point: those of a guide, and of a neighbourhood as wide as the budget."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.audit.guides import Guide, guides
from assay.audit.probes.attacks import Tries
from assay.audit.subject import SHARES, Subject
from assay.core.compose import Method, Through, run
from assay.core.draws import Draws
from assay.core.errors import ModelError
from assay.core.lens_oracles import Viewed
from assay.core.oracle import Access, Oracle
from assay.core.search import Keeps
from assay.core.threat import Threat

GUIDED_STEPS, GUIDED_LOOKS, WIDE_STEPS, WIDE_LOOKS = 10, 4, 10, 5
LEAST = 10
"""So many survivors are looked at even where the allowance does not pay for them: of what breaks three in ten, ten show
two with a probability of 85 %."""


@dataclasses.dataclass(frozen=True)
class Neighbourhood:
    """Gradients averaged over random points around, whose distance per value is one of `widths` in turn, in pixels.

    What is small and steep goes, what carries across the ball stays. A width of 0 is the point itself. Access:
    gradient. Cost: `samples` forwards and backwards a look, and where no width is 0 a forward that `judges`.
    """

    samples: int
    widths: tuple[float, ...]
    judges: bool = True

    access: ClassVar[Access] = Access.GRADIENT

    @property
    def passes(self) -> tuple[int, int]:
        """Forwards and backwards of one gradient look."""
        return self.samples + int(self.judges and 0 not in self.widths[: self.samples]), self.samples

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle seen so."""
        return Viewed(oracle, self)

    def view(self, points: Tensor, draws: Draws, i: int) -> Tensor:
        """Return neighbours of the points."""
        if not self.widths[i % len(self.widths)]:
            return points
        noise = draws.normal("neighbour", *points.shape[1:]).to(points)
        return points + self.widths[i % len(self.widths)] * noise


_LEAST_WIDTH, _MOST_WIDTH = 0.01, 0.15


def widths(threat: Threat, x: Tensor) -> tuple[float, ...]:
    """Return standard deviations of noise per value, for a neighbourhood as wide as the budget.

    Half of the budget in Linf. In other norms a budget that all values share is small at each of them: several times
    its share, up to a fixed part of the pixel range, for a few values may take more.
    """
    eps = float(torch.as_tensor(threat.eps).max())
    wide = eps / 2 if threat.norm.name == "linf" else 1.5 * eps / math.sqrt(x[0].numel())
    wide = min(_MOST_WIDTH, max(_LEAST_WIDTH, wide))
    return (wide, wide / 2)


def smoothed(threat: Threat, x: Tensor, steps: int, looks: int) -> Method:
    """Return PGD on the margin along gradients of a neighbourhood as wide as the budget."""
    return Through(Neighbourhood(looks, widths(threat, x)), build("pgd", steps=steps, objective="margin"))


def wide(subject: Subject) -> Tries:
    """Climb slopes of a whole neighbourhood for ten steps: 61 passes for each of 10 to 50 survivors."""
    few = _some(subject, "wide", WIDE_STEPS * (WIDE_LOOKS + 1) + 1)
    if subject.norm not in ATTACKS["pgd"].norms:
        return Tries(0, {})
    method = smoothed(few.problem.threat, few.problem.x, WIDE_STEPS, WIDE_LOOKS) if len(few.survived) else None
    return _tries(few, {} if method is None else {"gradients of a neighbourhood": (method, few.meter)})


def guided(subject: Subject) -> Tries:
    """Let each guide lead for ten steps, see `guides`: 51 passes or more each, for 10 to 50 survivors.

    The slopes are the mean of those at the point and at three around: in L2 and L1 the slope at a point of a network
    that was trained in Linf leads few images anywhere. Guides after one that breaks half are left out.
    """
    if subject.norm not in ATTACKS["pgd"].norms or not bool(subject.survived.any()):
        return Tries(0, {})
    found = guides(subject)
    led = [around(subject, one) for one in found]
    few = _some(subject, "guided", sum(one.per_look for one in led) * GUIDED_STEPS + max(1, len(led)))
    climb = build("pgd", steps=GUIDED_STEPS, objective="margin")
    return _tries(few, {one.name: (climb, few.meter.of(one.oracle)) for one in led}, enough=0.5)


def around(subject: Subject, one: Guide) -> Guide:
    """Return a guide whose slopes are the mean of those at the point and at three neighbours."""
    wide, narrow = widths(subject.problem.threat, subject.problem.x)
    near = Neighbourhood(GUIDED_LOOKS, (0.0, wide, narrow, wide), judges=False)
    led = dataclasses.replace(one.oracle, guide=Viewed(one.oracle.guide, near))
    return dataclasses.replace(one, oracle=led, per_look=1 + GUIDED_LOOKS * (one.per_look - 1))


def _some(subject: Subject, probe: str, cost: int) -> Subject:
    least = LEAST * cost * subject.per_look / SHARES[probe]
    return dataclasses.replace(subject, allowance=max(subject.allowance, least)).some(probe, cost, 50, survivors=True)


def _tries(few: Subject, tried: dict[str, tuple[Method, Oracle]], enough: float = math.inf) -> Tries:
    broken: dict[str, int] = {}
    for name, (method, oracle) in tried.items():
        if max(broken.values(), default=0) >= enough * max(1, len(few.survived)):
            break
        problem = dataclasses.replace(few.problem, oracle=oracle, known=None)
        try:
            found = run(method, problem, few.fold(f"try {name}"), keeps=Keeps.FIRST)
        except ModelError:
            continue
        broken[name] = int(found.success.sum())
    return Tries(len(few.survived), broken)
