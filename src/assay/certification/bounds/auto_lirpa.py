"""Bounds by the library auto_LiRPA, where the user has installed it: for networks that Assay's own bounds refuse."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from assay.attacks.options import Option
from assay.certification.bounds.crown import other_classes
from assay.certification.bounds.methods import added, clean_answers, refuse_model
from assay.certification.bounds.region import Region, refuse_norm
from assay.certification.certificate import Certificates
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.norms import L2, LINF
from assay.core.oracle import Cost
from assay.core.problem import Problem
from assay.core.tensors import counts, take
from assay.models import Classifier

_METHODS = {"ibp": "IBP", "crown": "CROWN", "alpha-crown": "CROWN-Optimized"}

# it computes in float32: its bounds have been seen 6e-6 above what is reached
_MARGIN = 1e-5

# images in one call
_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class AutoLiRPA:
    """Bounds that the library auto_LiRPA computes in float32 (Xu et al. 2020): of the network in real numbers.

    They hold up to that library's own rounding, of which 1e-5 is allowed for: not of the network as deployed. In L2
    and L1 it leaves the box out. What it does inside is not seen: a forward and a backward per other class are booked.
    """

    method: Annotated[Literal["ibp", "crown", "alpha-crown"], Option("Its method of bounds.")] = "crown"

    alpha: ClassVar[float] = 0.0

    def check(self, model: Classifier, problem: Problem) -> None:
        """Raise `BadInput` without the library, and for models and threats that it is not asked about."""
        _library()
        refuse_norm(problem.threat)
        refuse_model(model, problem)
        threat = problem.threat
        if threat.norm is not LINF and (threat.mask is not None or isinstance(threat.scale, Tensor)):
            raise BadInput(
                f"auto_LiRPA knows no mask and no budget per channel in {threat.norm.name}. Use linf, or the "
                "certificate crown, which knows both."
            )

    def prove(self, model: Classifier, problem: Problem, budgets: Sequence[float], draws: Draws) -> Certificates:
        """Return what the library proves; see `Certificate`."""
        library, x, y = _library(), problem.x, problem.goal.y
        lower = torch.full((len(budgets), len(x)), math.nan, dtype=torch.float64, device=x.device)
        with model.held():
            prediction, cost = clean_answers(model, problem)
            alive = prediction == y
            bounded = _asked(model, lambda: library.BoundedModule(model.module, x[:1].to(model.precision)))
            classes = _asked(model, lambda: bounded(x[:1].to(model.precision))).shape[1]
            for b, budget in enumerate(budgets):
                for part in torch.split(alive.nonzero().squeeze(1), _IMAGES) if bool(alive.any()) else ():
                    some = take(problem, part)
                    lower[b, part] = _asked(
                        model, lambda some=some, eps=budget: self._lower(bounded, classes, some, eps)
                    )
                    one = counts(part)
                    cost = added(cost, part, Cost(one + 1, one + classes - 1, one))
                alive = alive & (lower[b] > _MARGIN)
        return Certificates(lower > _MARGIN, prediction, lower, None, cost)

    def _lower(self, bounded: Any, classes: int, problem: Problem, budget: float) -> Tensor:
        library, region = _library(), Region.of(problem.threat.at(budget), problem.x)
        if region.norm is LINF:
            low, high = region.low.to(problem.x), region.high.to(problem.x)
            ball = library.PerturbationLpNorm(norm=math.inf, x_L=low, x_U=high)
        else:
            eps = float(region.radius.max()) * float(problem.threat.scale)
            ball = library.PerturbationLpNorm(norm=2.0 if region.norm is L2 else 1.0, eps=eps)
        one = torch.eye(classes, dtype=problem.x.dtype, device=problem.x.device)
        rows = one[problem.goal.y][:, None] - one[other_classes(problem.goal.y, classes)]
        asked = library.BoundedTensor(problem.x, ball)
        least, _ = bounded.compute_bounds(x=(asked,), C=rows, method=_METHODS[self.method], bound_upper=False)
        found: Tensor = least.detach().double().amin(1)
        return found


def _library() -> Any:
    try:
        return importlib.import_module("auto_LiRPA")
    except Exception as error:
        raise BadInput(
            f"The certificate auto-lirpa needs the library auto_LiRPA, which could not be imported ({error}). Install "
            "it from its repository (pip install git+https://github.com/Verified-Intelligence/auto_LiRPA; what the "
            "package index has is too old), or use the certificate crown, which needs nothing."
        ) from error


def _asked(model: Classifier, question: Any) -> Any:
    try:
        return question()
    except BadInput:
        raise
    except Exception as error:
        # whatever it raises for an operation that it does not know
        raise BadInput(
            f"auto_LiRPA has no bounds for this model: {type(error).__name__}: {error}. Dropout and overlapping max "
            "pooling are often the cause; remove dropout, or use the certificate crown."
        ) from error
