"""Whether gradients are true: autograd against finite differences, and how the margin behaves around an image."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from assay.attacks import ATTACKS
from assay.audit.subject import Subject
from assay.core.draws import Draws
from assay.core.errors import ModelError
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.tensors import flat, rows

_DIRECTIONS, _NEIGHBOURS, _RADIUS = 8, 8, 4 / 255
_PLACES = tuple(i / 5 for i in range(-5, 6))
_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Slopes:
    """What `n` images showed.

    `alignment` is the median cosine between the slopes that autograd tells along random directions and those measured
    there (1 is right), None where there are no gradients. `instability` is the mean relative change of the margin
    within 4 grey levels, at most 1. `along_gradient` and `along_random` are mean margins at `places` budgets away.
    `given` is False for a model that is known to give no gradients.
    """

    n: int
    alignment: float | None
    instability: float
    places: tuple[float, ...]
    along_gradient: tuple[float, ...]
    along_random: tuple[float, ...]
    given: bool = True


def slopes(subject: Subject) -> Slopes:
    """Ask around up to 16 images: 26 passes each, and 22 more for 4 of them."""
    few = subject.some("slopes", 2 * _DIRECTIONS + _NEIGHBOURS + 2 + 2 * len(_PLACES), 16)
    problem, draws = few.problem, few.fold("slopes")
    step = _step(few)
    own = _margin(few, problem.x)
    try:
        seen = problem.oracle.look(problem.x, problem.goal, margin, Access.GRADIENT, few.draws)
        grad: Tensor | None = seen.grad
    except ModelError:
        grad = None
    ways = [_signs(problem.x, draws.fold(i)) for i in range(_DIRECTIONS)]
    measured = torch.stack([_margin(few, problem.x + step * u) - _margin(few, problem.x - step * u) for u in ways], 1)
    alignment = None
    if grad is not None:
        told = torch.stack([flat(grad * u).sum(1) for u in ways], 1)
        # slopes of nothing along nothing agree with nothing
        alignment = float(torch.nn.functional.cosine_similarity(told, measured, 1, 1e-20).median())
    around = [_RADIUS * (2 * draws.fold(f"near {i}").uniform("u", *problem.x.shape[1:]).to(problem.x) - 1)
              for i in range(_NEIGHBOURS)]  # fmt: skip
    changes = torch.stack([(_margin(few, problem.x + u) - own).abs() / own.abs().clamp_min(1e-12) for u in around], 1)
    few = few.taken(torch.arange(min(_SHOWN, len(few.survived))))
    random = _signs(few.problem.x, draws.take(torch.arange(len(few.survived))).fold("shown"))
    steepest = random if grad is None else _steepest(few, grad[: len(few.survived)])
    return Slopes(
        n=len(own),
        alignment=alignment,
        instability=float(changes.mean(1).clamp_max(1).mean()),
        places=_PLACES,
        along_gradient=_line(few, steepest),
        along_random=_line(few, random),
        given=few.gives is Access.GRADIENT,
    )


def _step(subject: Subject) -> float:
    # a quarter of the budget of an equal change everywhere: smaller steps see rounding as a wall, larger ones bends
    threat, x = subject.problem.threat, subject.problem.x
    size = float(threat.length(torch.ones_like(x)).max())
    eps = threat.eps if isinstance(threat.eps, float | int) else float(threat.eps.max())
    return min(0.05, max(1 / 510, eps / size / 4))


def _steepest(subject: Subject, grad: Tensor) -> Tensor:
    # in L0 nothing is steepest: one value may change by anything
    return subject.problem.threat.steepest(grad) if subject.norm in ATTACKS["pgd"].norms else grad.sign()


def _signs(x: Tensor, draws: Draws) -> Tensor:
    return (draws.uniform("way", *x.shape[1:]) < 0.5).to(x) * 2 - 1


def _margin(subject: Subject, points: Tensor) -> Tensor:
    problem = subject.problem
    return problem.oracle.look(points, problem.goal, margin, Access.SCORES, subject.draws).loss


def _line(subject: Subject, way: Tensor) -> tuple[float, ...]:
    threat, x = subject.problem.threat, subject.problem.x
    size = threat.length(way).clamp_min(1e-12)
    unit = threat.only(way) * rows(threat.eps / size, way)
    return tuple(float(_margin(subject, threat.clip(x + t * unit)).mean()) for t in _PLACES)
