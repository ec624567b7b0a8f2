"""What gradient attacks can see: gradients that are zero or lost in rounding, objective by objective."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from assay.audit.gradients import ROUNDED, in_double
from assay.audit.histogram import Histogram, histogram
from assay.audit.subject import Subject
from assay.core.errors import ModelError
from assay.core.objective import OBJECTIVES, Objective, written_objective
from assay.core.oracle import Access, Observation
from assay.core.tensors import flat

_ASKED = ("cross_entropy", "margin", "dlr")
# of an image's values at the edge of the box: how many there have to be, and which share without a gradient
_FEWEST, _MOST = 4, 0.9


@dataclasses.dataclass(frozen=True)
class Sight:
    """What `n` images showed. `zero` is the share of exactly-zero gradients per objective, None where none came at all.

    `zero_in_double` is that of the cross-entropy in float64, `agreement` the median share of values whose sign is that
    of float64 (both None where the model cannot compute in it). `gaps` is the histogram of the gaps between the two
    highest logits, `median_gap` their median and `saturated` the share above 16.6, where float32 rounds the softmax.
    `climbed` are the objectives that the evaluation's gradient attacks climb. `edges` is the share of images on which
    hardly any value at the edge of the box has a gradient, though most others have one.
    """

    n: int
    zero: dict[str, float | None]
    zero_in_double: float | None
    agreement: float | None
    median_gap: float
    saturated: float
    gaps: Histogram
    climbed: tuple[str, ...]
    edges: float = 0.0


def sight(subject: Subject) -> Sight:
    """Look once per objective and once in float64: 4 passes for each of up to 64 images."""
    climbed = {
        written_objective(leaf.objective): leaf.objective for leaf in subject.leaves if leaf.family == "gradient"
    }
    asked = {name: OBJECTIVES[name] for name in _ASKED} | climbed
    few = subject.some("sight", len(asked) + 1, 64)
    seen = {name: _seen(few, objective) for name, objective in asked.items()}
    one = next((look for look in seen.values() if look is not None), None)
    logits = one.logits if one is not None else _scores(few)
    top = few.of_classes(logits).topk(2, 1).values.double()
    gaps = (top[:, 0] - top[:, 1]).cpu()
    gaps = gaps[gaps.isfinite()]
    zero_in_double, agreement = _in_double(few, seen["cross_entropy"])
    return Sight(
        n=len(few.survived),
        zero={name: None if look is None else _share(_is_zero(look)) for name, look in seen.items()},
        zero_in_double=zero_in_double,
        agreement=agreement,
        median_gap=float(gaps.median()) if len(gaps) else math.nan,
        saturated=_share(gaps > ROUNDED) if len(gaps) else 0.0,
        gaps=histogram(gaps),
        climbed=tuple(climbed),
        edges=0.0 if one is None else _share(_blind_at_edges(one, few.problem.x)),
    )


def _seen(subject: Subject, objective: Objective) -> Observation | None:
    problem = subject.problem
    try:
        return problem.oracle.look(problem.x, problem.goal, objective, Access.GRADIENT, subject.draws)
    except ModelError:
        # the output is detached: there is no gradient to be zero
        return None


def _scores(subject: Subject) -> Tensor:
    problem = subject.problem
    return problem.oracle.look(problem.x, problem.goal, OBJECTIVES["margin"], Access.SCORES, subject.draws).logits


def _is_zero(seen: Observation) -> Tensor:
    assert seen.grad is not None, "the look asked for it"
    return flat(seen.grad == 0).all(1)


def _blind_at_edges(seen: Observation, x: Tensor) -> Tensor:
    assert seen.grad is not None, "the look asked for it"
    zero, values = flat(seen.grad == 0), flat(x)
    edge = (values <= 0) | (values >= 1)
    there, elsewhere = edge.sum(1), (~edge).sum(1)
    blind = (zero & edge).sum(1) >= _MOST * there
    return (there >= _FEWEST) & (elsewhere > 0) & blind & ((zero & ~edge).sum(1) * 2 <= elsewhere)


def _in_double(subject: Subject, single: Observation | None) -> tuple[float | None, float | None]:
    double = in_double(subject.module)
    if double is None or single is None or single.grad is None:
        return None, None
    problem = subject.problem
    try:
        with torch.random.fork_rng(devices=[]):
            seen = subject.asking(double).look(
                problem.x.double(), problem.goal, OBJECTIVES["cross_entropy"], Access.GRADIENT, subject.draws
            )
    except (RuntimeError, ModelError, TypeError):
        # a layer or a constant of one type
        return None, None
    assert seen.grad is not None, "the look asked for it"
    same = flat(seen.grad.sign() == single.grad.sign().to(seen.grad)).double().mean(1)
    return _share(_is_zero(seen)), float(same.median())


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())
