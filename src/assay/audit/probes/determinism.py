"""How the model answers: the same way twice, one image at a time, with what its forward pass does on the way."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from assay.audit.subject import Subject
from assay.core.answers import sum_to_hundred, sum_to_one
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.models.remote.place import fresh

_DIFFERS = 1e-4


@dataclasses.dataclass(frozen=True)
class Answers:
    """What `n` images showed: shares of them whose logits differ when asked again, and asked in other company.

    `gradients_inside` counts gradients that the forward pass itself computes, `changes` whether it changes the model.
    `probabilities` says that rows sum to 1, `flat` is the share of images whose runner-up classes all tie.
    Neither is asked of a model that gives `labels` alone.
    """

    n: int
    differ: float
    company: float
    gradients_inside: int
    changes: bool
    probabilities: bool
    flat: float
    labels: bool = False


def answers(subject: Subject) -> Answers:
    """Ask about 16 images twice, and once more each alone: 3 passes each."""
    few = subject.some("answers", 3, 16)
    problem, n = few.problem, len(few.survived)
    # a model that draws answers equal looks alike: the second time it draws others
    other = few.fold("again") if few.random else few.draws
    later = dataclasses.replace(few, draws=other)
    before = _fingerprint(few)
    # a model that is asked for the first time is asked in several forms, see `core.form`: the second time counts
    first = _logits(few, torch.arange(n))
    # what an endpoint answered is kept: whether it repeats itself shows where it is asked anew
    with fresh():
        with _counted_gradients() as inside:
            again = _logits(later, torch.arange(n))
        alone = torch.cat([_logits(later, torch.tensor([i])) for i in range(n)])
    differ, company = _apart(first, again), _apart(again, alone)
    first = few.of_classes(first)
    tops = first.topk(min(3, first.shape[1]), 1).values
    # one 1 and otherwise zeros: neither probabilities nor ties
    labels = subject.gives is Access.LABELS
    compared = bool(problem.x.numel()) and first.shape[1] > 2 and not labels
    return Answers(
        n=n,
        differ=_share(differ),
        company=_share(company),
        gradients_inside=len(inside),
        changes=before != _fingerprint(few),
        probabilities=not labels and bool(sum_to_one(first).all() or sum_to_hundred(first).all()),
        flat=_share((tops[:, 1] - tops[:, -1]).abs() < 1e-6) if compared else 0.0,
        labels=labels,
    )


def _logits(subject: Subject, at: Tensor) -> Tensor:
    one = subject.taken(at)
    return one.problem.oracle.look(one.problem.x, one.problem.goal, margin, Access.SCORES, one.draws).logits


def _apart(a: Tensor, b: Tensor) -> Tensor:
    # relative to the logits: the order of sums may differ with the batch, a random layer differs by far more
    return (a - b).abs().amax(1) > _DIFFERS * (1 + a.abs().amax(1))


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())


def _fingerprint(subject: Subject) -> float:
    values = [*subject.module.parameters(), *subject.module.buffers()]
    return sum(float(value.double().sum()) for value in values if value.is_floating_point())


@contextlib.contextmanager
def _counted_gradients() -> Iterator[list[None]]:
    # while it lasts, every gradient that anybody computes is noted
    seen: list[None] = []
    # the method of a tensor goes through the function
    grad, backward = torch.autograd.grad, torch.autograd.backward

    def noted(call: Any) -> Any:
        def noting(*args: Any, **kwargs: Any) -> Any:
            seen.append(None)
            return call(*args, **kwargs)

        return noting

    torch.autograd.grad = noted(grad)
    torch.autograd.backward = noted(backward)
    try:
        yield seen
    finally:
        torch.autograd.grad = grad
        torch.autograd.backward = backward
