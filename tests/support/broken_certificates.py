"""Certificates by bounds that are wrong, each in a way that somebody has been: checks must catch them."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Tensor, nn

from assay.certification import Certificates
from assay.certification.bounds import crown, methods, operations
from assay.certification.bounds.methods import CROWN
from assay.certification.bounds.region import Region
from assay.certification.bounds.rows import Rows
from assay.core.draws import Draws
from assay.core.norms import LINF, NORMS
from assay.core.problem import Problem
from assay.models import Classifier

Slip = Callable[[Problem], contextlib.AbstractContextManager[Any]]


@dataclasses.dataclass(frozen=True)
class Broken:
    """CROWN in real numbers, with a slip in it while it proves."""

    slip: Slip
    model: Callable[[Classifier, Problem], Classifier] = lambda model, problem: model

    alpha: ClassVar[float] = 0.0

    def check(self, model: Classifier, problem: Problem) -> None:
        """Accept what CROWN accepts."""
        CROWN("real").check(model, problem)

    def prove(self, model: Classifier, problem: Problem, budgets: Sequence[float], draws: Draws) -> Certificates:
        """Return what it believes to have proved."""
        with self.slip(problem):
            return CROWN("real").prove(self.model(model, problem), problem, budgets, draws)


def _nothing(problem: Problem) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def _upper_line_through_zero(problem: Problem) -> Iterator[None]:
    right = crown.Lines.around

    def wrong(bounds: Any) -> crown.Lines:
        lines = right(bounds)
        return dataclasses.replace(lines, intercept=torch.zeros_like(lines.intercept))

    with mock.patch.object(crown.Lines, "around", wrong):
        yield


@contextlib.contextmanager
def _lines_by_the_wrong_sign(problem: Problem) -> Iterator[None]:
    right = crown.Lines.through

    def wrong(self: crown.Lines, rows: Rows, slopes: Tensor | None = None) -> tuple[Rows, Tensor]:
        return right(dataclasses.replace(self, lower=self.upper, upper=self.lower), rows, slopes)

    with mock.patch.object(crown.Lines, "through", wrong):
        yield


def _bias_forgotten(problem: Problem) -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(operations.Linear, "constant", lambda self, rows: 0.0)


@contextlib.contextmanager
def _cut_at_the_box(problem: Problem) -> Iterator[None]:
    right = Region.of

    def wrong(threat: Any, x: Tensor, **options: Any) -> Region:
        return right(dataclasses.replace(threat, box=(0.0, 1.0)), x, **options)

    with mock.patch.object(Region, "of", wrong):
        yield


@contextlib.contextmanager
def _short_margins(problem: Problem) -> Iterator[None]:
    right = methods.interval_margins

    def wrong(graph: Any, known: Any, y: Tensor) -> Tensor:
        low, high = (side.half().double() for side in known[-1])
        return torch.maximum(right(graph, known, y), low.gather(1, y[:, None]) - high)

    with mock.patch.object(methods, "interval_margins", wrong):
        yield


@contextlib.contextmanager
def _linf_as_l2(problem: Problem) -> Iterator[None]:
    right = Region.of

    def wrong(threat: Any, x: Tensor, **options: Any) -> Region:
        return right(
            dataclasses.replace(threat, norm=NORMS["l2"] if threat.norm is LINF else threat.norm), x, **options
        )

    with mock.patch.object(Region, "of", wrong):
        yield


def _statistics_of_the_batch(model: Classifier, problem: Problem) -> Classifier:
    # batch norm as it is in train mode: by the mean and variance of these images
    module = copy.deepcopy(model.module)
    for one in module.modules():
        if isinstance(one, nn.BatchNorm1d):
            one.momentum = 1.0
    module.train()(problem.x)
    return dataclasses.replace(model, module=module.eval())


BROKEN: dict[str, Broken] = {
    "the upper line without its intercept": Broken(_upper_line_through_zero),
    "upper lines for what needs lower ones": Broken(_lines_by_the_wrong_sign),
    "the bias forgotten on the way back": Broken(_bias_forgotten),
    "cut at a box that the threat does not have": Broken(_cut_at_the_box),
    "batch norm in train mode": Broken(_nothing, _statistics_of_the_batch),
    "margins in float16": Broken(_short_margins),
    "linf claimed from l2": Broken(_linf_as_l2),
}
