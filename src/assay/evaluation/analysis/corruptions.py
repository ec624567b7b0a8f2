"""Accuracy on corrupted data: per corruption and severity, their mean, and the corruption error of ImageNet-C.

An average case: corruptions are drawn without looking at the model, so that none of these numbers bounds what an attack
does. Corruption errors are divided by AlexNet's, as Hendrycks and Dietterich 2019 define them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.data.corruption import SEVERITIES, Corruption, CorruptionSet, set_for, take_view
from assay.evaluation.analysis.score import Result
from assay.evaluation.cell import Cell
from assay.models.imagenet import imagenet_classes
from assay.statistics import wilson

ALEXNET = {
    "gaussian-noise": 0.886428, "shot-noise": 0.894468, "impulse-noise": 0.922640, "defocus-blur": 0.819880,
    "glass-blur": 0.826268, "motion-blur": 0.785948, "zoom-blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic-transform": 0.646056,
    "pixelate": 0.717840, "jpeg-compression": 0.606500,
}  # fmt: skip
"""AlexNet's published top-1 errors on ImageNet-C, each the mean over the five severities."""

ALEXNET_CLEAN = 0.43478
"""AlexNet's top-1 error on ImageNet's validation set: torchvision's weights, those of the errors above."""

_IMAGENET = ("samples", "imagenet:", "imagenet-c:")


@dataclasses.dataclass(frozen=True)
class CorruptionResult:
    """The accuracy of a model on data corrupted in one way: an average case. Severity 0 are the data themselves.

    `accuracy` is the share of the `n` images that were classified as labelled, with its interval (Wilson, 95 %);
    `errors` counts those that could not be evaluated, and are in no number.
    """

    cell: str
    model: str
    data: str
    corruption: str
    severity: int
    n: int
    accuracy: float
    low: float
    high: float
    errors: int


@dataclasses.dataclass(frozen=True)
class CorruptionTable:
    """All results of one model on one data set. `imagenet` says that the labels are ImageNet's."""

    model: str
    data: str
    corruptions: CorruptionSet
    clean: CorruptionResult | None
    results: tuple[CorruptionResult, ...]
    imagenet: bool

    @property
    def kinds(self) -> tuple[str, ...]:
        """The corruptions that were measured, the standard ones first."""
        there = {one.corruption for one in self.results}
        return tuple(kind for kind in self.corruptions.kinds if kind in there)

    @property
    def severities(self) -> tuple[int, ...]:
        """The severities that were measured."""
        return tuple(sorted({one.severity for one in self.results}))

    @property
    def standard(self) -> tuple[str, ...]:
        """The corruptions that count for the mean."""
        return tuple(kind for kind in self.kinds if kind in self.corruptions.standard)

    @property
    def validation(self) -> tuple[str, ...]:
        """The corruptions that stand apart from the mean."""
        return tuple(kind for kind in self.kinds if kind not in self.corruptions.standard)

    def at(self, kind: str, severity: int) -> CorruptionResult | None:
        """Return a result, if there is one."""
        found = (one for one in self.results if (one.corruption, one.severity) == (kind, severity))
        return next(found, None)

    def of(self, kind: str) -> float:
        """Return the mean accuracy over the severities of a corruption; NaN where there are none."""
        return _mean([one.accuracy for one in self.results if one.corruption == kind])

    def mean(self, kinds: Sequence[str]) -> float:
        """Return the mean over corruptions, each the mean over its severities; NaN where there are none."""
        return _mean([self.of(kind) for kind in kinds])

    def error(self, kind: str) -> float:
        """Return the corruption error CE, 100 for AlexNet itself; NaN without ImageNet's labels or all severities."""
        return self._ratio(kind, 1.0, 0.0)

    def relative_error(self, kind: str) -> float:
        """Return the relative CE, by how much more errors a corruption makes than there are without; NaN as above."""
        return self._ratio(kind, self.clean.accuracy if self.clean else math.nan, ALEXNET_CLEAN)

    def _ratio(self, kind: str, best: float, base: float) -> float:
        if not self.imagenet or kind not in ALEXNET or any(self.at(kind, one) is None for one in SEVERITIES):
            return math.nan
        return 100 * (best - self.of(kind)) / (ALEXNET[kind] - base)

    @property
    def mean_error(self) -> float:
        """The mean corruption error mCE; NaN unless all of the standard corruptions have theirs."""
        return _mean([self.error(kind) for kind in self.corruptions.standard])

    @property
    def relative_mean_error(self) -> float:
        """The relative mCE; NaN unless all of the standard corruptions have theirs."""
        return _mean([self.relative_error(kind) for kind in self.corruptions.standard])


def tables(results: Iterable[Result], manifest: Mapping[str, Any]) -> list[CorruptionTable]:
    """Return one table per model and data set, of the `results` of the cells that were not attacked.

    `manifest` is the run's: it knows the cells, and the classes of models and data.
    """
    found: dict[tuple[str, str], list[CorruptionResult]] = {}
    sources: dict[tuple[str, str], tuple[str, CorruptionSet]] = {}
    for result in results:
        cell = Cell.of(manifest["cells"][result.cell])
        plain, corruption = take_view(cell.data.source)
        key = result.model, cell.data.original
        # a model agrees with its own answers: that is no accuracy
        if corruption is not None or not cell.data.labels:
            found.setdefault(key, []).append(_result(result, key[1], corruption))
        shape = manifest["data"].get(result.data, {}).get("image_shape")
        sources[key] = plain, set_for(None if shape is None else tuple(shape))
    return [
        CorruptionTable(
            *key,
            sources[key][1],
            next((one for one in rows if not one.severity), None),
            tuple(one for one in rows if one.severity),
            _has_imagenet_labels(key[0], sources[key][0], manifest),
        )
        for key, rows in found.items()
    ]


def _result(result: Result, data: str, corruption: Corruption | None) -> CorruptionResult:
    kind, severity = (corruption.kind, corruption.severity) if corruption else ("", 0)
    accuracy = result.survived / result.n if result.n else math.nan
    ends = wilson(result.survived, result.n)
    return CorruptionResult(
        result.cell, result.model, data, kind, severity, result.n, accuracy, *ends, result.errors
    )  # fmt: skip


def _has_imagenet_labels(model: str, source: str, manifest: Mapping[str, Any]) -> bool:
    classes = manifest["models"].get(model, {}).get("classes")
    if classes is not None and len(classes) != 1000:
        return False
    return source.startswith(_IMAGENET) or (classes is not None and tuple(classes) == imagenet_classes())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
