"""The functions that take tensors: one attack, one sweep over budgets."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from assay.case import Case
from assay.core.compose import Method, run
from assay.core.errors import BadInput, warn_caller
from assay.core.goal import answer_of, excluded
from assay.core.masks import same_mask
from assay.core.result import Keeps, SearchResult, told_size
from assay.core.sweep import sweep as sweep_budgets
from assay.core.threat import Threat
from assay.models import Classifier
from assay.preflight.checks import short_steps
from assay.vocabulary import Order, Question

Kind = TypeVar("Kind", bound=enum.Enum)


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What an attack did to `[N, C, H, W]` images; everything is per sample.

    `success`: the goal is reached by `x_adv`, inside budget and box. `size` is in units of the threat, and at most its
    budget where the threat allows the change. `logits` are the model's at `x_adv`. `forwards` and `backwards` count
    the rows that went through the model.

    `excluded` (bool) are the images whose label is the goal's target: they are not attacked, and `x_adv` is the image.
    `unscored` (int64) counts the points of the attack at which the model's scores were NaN or infinite. Such a point
    is no success, and another one is kept in its place; where the attack keeps its last point and that is one,
    `x_adv` is that point and `logits` are its scores.

    `refused` (bool) says where a model that may refuse an image refuses `x_adv`, which is no success unless the goal
    wants it; None for other models. Of those, `logits` are `[N, K + 1]`, the last for the refusal.
    """

    x_adv: Tensor
    success: Tensor
    size: Tensor
    logits: Tensor
    forwards: Tensor
    backwards: Tensor
    queries: Tensor
    threat: Threat
    excluded: Tensor
    unscored: Tensor
    refused: Tensor | None = None

    @property
    def judged(self) -> Tensor:
        """The images that count, bool `[N]`: not excluded, and broken or else attacked with scores at every point."""
        return ~self.excluded & (self.success | (self.unscored == 0))

    @property
    def robust_accuracy(self) -> float:
        """The fraction of the `judged` images on which the attack did not reach its goal; NaN where there are none.

        An image that the model refuses without any change counts as not broken here; `assay.evaluate` counts it as
        wrong.
        """
        return 1.0 - float(self.success[self.judged].double().mean())


def attack(
    method: Method,
    model: nn.Module | Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    **settings: Any,
) -> Attacked:
    """Attack images `x` (float `[N, C, H, W]` in [0, 1]) with labels `y` (int64 `[N]`).

    `model` maps such images to logits `[N, K]`; it is held in eval mode meanwhile and left as it was. Settings:
    `goal` (default: `Untargeted(y)`), `seed` (0), `ids` (a string per image; default: its position), `keep`
    ("last", "first", "worst" or "smallest": which point of the path counts; default: the attack's own) and `batch`
    (rows per pass). The same seed and ids give the same images, whatever the batch they come in.

    Raises `BadInput` for images outside the box, NaN, labels out of range, and unknown settings, `ModelError` where
    the scores of an image itself are seen to be NaN or infinite.
    """
    case = Case.of(method, model, x, y, threat, settings)
    _warn_of_steps(method)
    keep = settings.get("keep")
    keeps = None if keep is None else _keeps(keep)
    with case.classifier.held():
        case.ask_one()
        (found,) = case.found(lambda problem, draws: [run(case.method, problem, draws, keeps=keeps)])
    return _attacked(found, case, case.problem.threat)


def sweep(
    method: Method,
    model: nn.Module | Classifier,
    x: Tensor,
    y: Tensor,
    threats: Sequence[Threat],
    **settings: Any,
) -> list[Attacked]:
    """Attack the same images at several budgets, and return one result per threat.

    The threats differ in their budget alone. Settings as for `attack`, without `keep`, and `question`
    ("as_attacked", the default, or "worst_case") and `order` ("ascending" or "descending", for the worst case).
    Passes that serve several budgets are made once: eight budgets of FGSM cost nine forwards and one backward.
    """
    if isinstance(threats, Threat):
        raise BadInput("threats is one threat, expected a list of threats; one alone goes to assay.attack.")
    if "keep" in settings:
        raise BadInput("A sweep takes no keep: the question (as_attacked or worst_case) says which point counts.")
    if not threats:
        return []
    question = _choice(Question, settings.pop("question", "as_attacked"), "question")
    order = _choice(Order, settings.pop("order", "ascending"), "order")
    case = Case.of(method, model, x, y, threats[0], settings)
    budgets = _budgets(threats)
    _warn_of_steps(method)
    with case.classifier.held():
        case.ask_one()
        curve = case.found(
            lambda problem, draws: sweep_budgets(case.method, problem, draws, budgets, question, order=order).found
        )
    resolved = case.problem.threat
    return [
        _attacked(found, case, dataclasses.replace(resolved, eps=threat.eps, budget=threat.budget))
        for found, threat in zip(curve, threats, strict=True)
    ]


def _warn_of_steps(method: Method) -> None:
    for told in dict.fromkeys(short_steps(method)):
        warn_caller(told)


def _budgets(threats: Sequence[Threat]) -> list[float]:
    head = threats[0]
    for threat in threats:
        if isinstance(threat.eps, Tensor) or isinstance(threat.scale, Tensor):
            raise BadInput("A sweep takes one number per threat; budgets per channel or per sample go to assay.attack.")
        unit = threat.budget.unit if threat.budget else None
        same = threat.norm is head.norm and threat.box == head.box and threat.grid == head.grid
        same = same and same_mask(threat.mask, head.mask) and threat.components == head.components
        if not same or unit != (head.budget.unit if head.budget else None):
            raise BadInput(
                "The threats of a sweep may differ in their budget only (same norm, components, box, grid, mask and "
                "unit)."
            )
    return [float(threat.eps) for threat in threats]


def _keeps(value: str | Keeps) -> Keeps:
    return _choice(Keeps, value, "keep")


def _choice(kind: type[Kind], value: Any, name: str) -> Kind:
    try:
        return kind(value)
    except ValueError:
        raise BadInput(f"{name} is {value!r}, expected one of {', '.join(one.value for one in kind)}.") from None


def _attacked(found: SearchResult, case: Case, threat: Threat) -> Attacked:
    spent, size = (found.forwards, found.backwards, found.queries), told_size(found.size, threat)
    left_out, refused = excluded(case.problem.goal), None
    if case.classifier.rejects:
        # an attack that asked nothing has no logits
        has = found.logits.shape[1] > 0
        refused = answer_of(found.logits) == found.logits.shape[1] - 1 if has else torch.zeros_like(found.success)
    return Attacked(found.x, found.success, size, found.logits, *spent, threat, left_out, found.unscored, refused)


__all__ = ["Attacked", "attack", "sweep"]
