"""Gradients that take a model's detector into account, as a lens: for models that refuse images.

Every gradient attack climbs an objective of the answer, in which a refusal is one class more. Behind this lens it
follows another gradient: of the classifier or of the detector alone, of both in turn, or towards what the detector
compares. What is judged, and what the attack is told of its objective, is the answer of the whole model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput, did_you_mean
from assay.core.goal import Goal, Targeted, Toward, among_classes, knows_refusal, pick, without
from assay.core.objective import Objective
from assay.core.oracle import Access, Observation, Oracle, TorchOracle
from assay.core.signals import Asked, excess_of, guides_of
from assay.core.tensors import flat, rows

Way = Literal["selective", "orthogonal", "views", "features", "logits"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclasses.dataclass(frozen=True)
class Adaptive:
    """Gradients of an attack that knows the model's detector, in one of these ways.

    - `selective`: of the attack's objective among the classes while the goal is unmet there, of minus the detector's
      excess once it is met (Bryniarski et al. 2022).
    - `orthogonal`: the same, less its projection on the other of the two (Bryniarski et al. 2022).
    - `views`: of the margins of one wrong class in all copies that the detector compares, summed, each up to a cap.
    - `features`, `logits`: towards those of accepted images of another class, which the detector has stored.

    Where the goal says nothing of a refusal, the model is seen as it is; so is an objective of several numbers, such
    as DeepFool's. Access: gradient. Cost: as without it, and for `orthogonal` a second backward. Raises `BadInput` for
    another way, and where the detector has stored nothing to imitate; `ModelError` where it compares no such signal.
    """

    way: Way

    access: ClassVar[Access] = Access.GRADIENT

    def __post_init__(self) -> None:
        """Refuse an unknown way."""
        if self.way not in WAYS:
            raise BadInput(f"{self.way!r} is no way, expected one of {', '.join(WAYS)}.{did_you_mean(self.way, WAYS)}")

    @property
    def passes(self) -> tuple[int, int]:
        """Forwards and backwards of one gradient look."""
        return 1, 2 if self.way == "orthogonal" else 1

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle seen so."""
        if self.way == "selective":
            return _Steered(oracle, _Selective)
        if self.way == "orthogonal":
            return _Steered(oracle, _Both)
        asked, inside = _asking(oracle, self.way)
        if self.way == "views":
            return _Imitating(oracle, inside, asked, _SameClass(asked))
        guides = guides_of(asked.network, self.way)
        if guides is None:
            raise BadInput(
                f"The model has stored no {self.way} of accepted images to imitate: it is behind no detector that "
                "keeps any. Use adaptive=selective or adaptive=orthogonal, which need none."
            )
        return _Imitating(oracle, inside, asked, _Match(asked, guides.flatten(1)))


@dataclasses.dataclass(frozen=True)
class _Selective:
    objective: Objective

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        classes, bare = logits[:, :-1], among_classes(goal)
        own = self.objective(classes, bare)
        if own.ndim > 1:
            return self.objective(logits, goal)
        return torch.where(bare.reached(classes), -excess_of(logits), own)


@dataclasses.dataclass(frozen=True)
class _Both:
    # the classifier's objective and minus the detector's excess, [N, 2]
    objective: Objective

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        own = self.objective(logits[:, :-1], among_classes(goal))
        return self.objective(logits, goal) if own.ndim > 1 else torch.stack([own, -excess_of(logits)], 1)


@dataclasses.dataclass(frozen=True)
class _Steered:
    oracle: Oracle
    steered: Callable[[Objective], Objective]

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        if access is not Access.GRADIENT or not knows_refusal(goal):
            return self.oracle.look(points, goal, objective, access, draws)
        seen = self.oracle.look(points, goal, self.steered(objective), access, draws)
        loss = objective(seen.logits, goal)
        if loss.ndim > 1:
            return seen
        grad = seen.grad
        assert grad is not None, "asked for"
        if grad.ndim > points.ndim:
            grad = _orthogonal(grad, among_classes(goal).reached(seen.logits[:, :-1]))
        return seen._replace(loss=loss, grad=grad)


def _orthogonal(grad: Tensor, met: Tensor) -> Tensor:
    # of [N, 2, *S] the classifier's where the goal is unmet, less what of it moves the detector, or the other way round
    own, other = (torch.where(rows(met, grad[:, 0]), grad[:, i], grad[:, 1 - i]) for i in (1, 0))
    # scaled first: squares of small gradients are 0 in single precision
    unit = other / rows(flat(other).abs().amax(1).clamp_min(torch.finfo(grad.dtype).tiny), other)
    along = flat(own * unit).sum(1) / flat(unit).square().sum(1).clamp_min(1e-12)
    left = own - rows(along, own) * unit
    # of gradients that are all but parallel nothing is left to follow: there is no conflict, or no way around it
    kept = flat(left).norm(dim=1) > 5e-2 * flat(own).norm(dim=1)
    return torch.where(rows(kept, own), left, own)


def _asking(oracle: Any, signal: str) -> tuple[Asked, Oracle]:
    # the same oracle around a model that says a signal beside its answer
    if isinstance(oracle, TorchOracle):
        asked = Asked(oracle.model, signal)
        return asked, dataclasses.replace(oracle, model=asked)
    if not hasattr(oracle, "oracle"):
        raise BadInput(f"{type(oracle).__name__} gives no {signal}: adaptive={signal} needs the model itself.")
    asked, inside = _asking(oracle.oracle, signal)
    around: Any = dataclasses.replace(oracle, oracle=inside)
    return asked, around


@dataclasses.dataclass(frozen=True)
class _Answering:
    # the goal, for an output that has a signal behind the answer
    goal: Goal
    asked: Asked

    @property
    def y(self) -> Tensor:
        return self.goal.y

    def reached(self, output: Tensor) -> Tensor:
        return self.goal.reached(self.asked.answer(output))

    def gap(self, output: Tensor) -> Tensor:
        return self.goal.gap(self.asked.answer(output))

    def lead(self, output: Tensor) -> Tensor:
        return self.goal.lead(self.asked.answer(output))

    def surprise(self, output: Tensor) -> Tensor:
        return self.goal.surprise(self.asked.answer(output))


@dataclasses.dataclass(frozen=True)
class _Instead:
    # what is climbed in place of an objective that is one number; the goal is an `_Answering`
    objective: Objective
    asked: Asked
    climbed: Objective

    def __call__(self, output: Tensor, goal: Goal) -> Tensor:
        own = self.objective(self.asked.answer(output), _inside(goal))
        return own if own.ndim > 1 else self.climbed(output, goal)


@dataclasses.dataclass(frozen=True)
class _Imitating:
    oracle: Oracle
    inside: Oracle
    asked: Asked
    climbed: Objective

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        if access is not Access.GRADIENT or not knows_refusal(goal):
            return self.oracle.look(points, goal, objective, access, draws)
        climbed = _Instead(objective, self.asked, self.climbed)
        seen = self.inside.look(points, _Answering(goal, self.asked), climbed, access, draws)
        logits = self.asked.answer(seen.logits)
        return seen._replace(logits=logits, loss=objective(logits, goal))


# beyond this margin, in logits, a softmax cannot tell one copy from another
_CAP = 10.0


@dataclasses.dataclass(frozen=True)
class _SameClass:
    asked: Asked

    def __call__(self, output: Tensor, goal: Goal) -> Tensor:
        views, answer = self.asked.told(output), self.asked.answer(output)
        aim = _aim(goal)
        if aim is None:
            # the wrong class that all copies together come nearest to
            aim = without(views.detach().log_softmax(2).sum(1), goal.y).argmax(1)
        each = aim[:, None].expand(views.shape[:2]).reshape(-1)
        every = views.flatten(0, 1)
        margins = (pick(every, each) - without(every, each).amax(1)).view(views.shape[:2])
        agreed = (margins >= _CAP).all(1)
        return torch.where(agreed, -excess_of(answer), margins.clamp_max(_CAP).sum(1))


@dataclasses.dataclass(frozen=True)
class _Match:
    asked: Asked
    guides: Tensor

    def __call__(self, output: Tensor, goal: Goal) -> Tensor:
        told = flat(self.asked.told(output))
        guides = self.guides.to(told)
        aim = _aim(goal)
        if aim is None:
            # the nearest of another class; not by a product of matrices, whose rounding depends on the rows there are
            away = torch.cdist(told.detach(), guides, compute_mode="donot_use_mm_for_euclid_dist")
            aim = away.scatter(1, goal.y[:, None], torch.inf).argmin(1)
        return -(told - guides[aim]).square().mean(1)


def _aim(goal: Goal) -> Tensor | None:
    inside = _inside(goal)
    return inside.t if isinstance(inside, Targeted | Toward) else None


def _inside(goal: Goal) -> Goal:
    return goal.goal if isinstance(goal, _Answering) else goal
