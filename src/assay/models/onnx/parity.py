"""Whether a converted network is the network in an ONNX file: by its answers, and by the slopes of the file itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.models.deployed import Answer

SAME, SLOPE = 1e-4, 0.15
"""Largest difference of logits, as a share of their range, and of slopes, as a share of them."""

_DIRECTIONS = 2
_GENTLE, _KEPT = 0.1, 0.75
_LEVEL = 1 / 255


@dataclasses.dataclass(frozen=True)
class Precision:
    """What rounding does to a file's answers: by which share of the largest logit it moves them.

    `same` is how far apart logits may be, as a share of their range, `steps` by which shares of it central differences
    move them, and `furthest` by how much these move a pixel. `levels` says that images are rounded to grey levels.
    """

    rounding: float = 5e-7
    same: float = SAME
    steps: tuple[float, ...] = (5e-5, 2e-5, 1e-5, 2e-4)
    furthest: float = 2 / 255
    levels: bool = False


HALF = Precision(5e-4, 2e-2, (0.05, 0.1), 16 / 255)


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far a twin is from its file: `logits` as a share of their range, `slope` and `across` as shares of slopes.

    `slope` compares central differences of the file along the twin's gradient, `across` those in other directions,
    which see what the gradient leaves out. Both are NaN where the file moves by no more than rounding.
    """

    logits: float
    slope: float = math.nan
    across: float = math.nan
    same: float = SAME

    @property
    def passed(self) -> bool:
        """Whether the twin may give the gradients of the file."""
        return self.logits <= self.same and not any(one > SLOPE for one in (self.slope, self.across))

    @property
    def written(self) -> str:
        """The figures in words."""
        told = f"logits within {self.logits:.1g} of their range"
        slopes = [one for one in (self.slope, self.across) if not math.isnan(one)]
        if not slopes:
            return f"{told}, slopes not compared: the file hardly moves there"
        return f"{told}, central differences of the file within {max(0.1, 100 * max(slopes)):.1g} % of its gradient"


def probes(shape: Sequence[int]) -> Tensor:
    """Return eight images `[8, C, H, W]` in [0, 1], always the same: pictures, bright shapes on black, and noise."""
    draws = torch.Generator().manual_seed(20)
    pictures = _wavy((2, *shape), draws, "bicubic", torch.rand)
    shapes = (4 * _wavy((2, *shape), draws, "bicubic", torch.randn) - 2).clamp(0, 0.9)
    smooth = torch.cat([pictures, shapes]) + 0.05 * torch.randn((4, *shape), generator=draws)
    noise = torch.rand((4, *shape), generator=draws)
    return torch.cat([smooth, noise]).clamp(0.02, 0.98)


def compared(answer: Answer, twin: nn.Module, images: Tensor, precision: Precision) -> Parity:
    """Compare a twin with the file that gives `answer`, on images `[N, C, H, W]` in [0, 1].

    Raises whatever the twin raises, and `ModelError` where the file gives no answer.
    """
    given = _answers(answer, images)
    draws = torch.Generator().manual_seed(21)
    x = images.clone().requires_grad_()
    with torch.enable_grad():
        own = twin(x)
        if own.shape != given.shape:
            raise ValueError(f"it answers {list(own.shape)}, and the file {list(given.shape)}")
        weights = F.normalize(torch.randn(given.shape, generator=draws, dtype=torch.float64), dim=1)
        gradient = torch.zeros_like(x, dtype=torch.float64)
        if own.requires_grad:
            # of an image that the scores do not depend on it is zero
            (found,) = torch.autograd.grad((own.double() * weights).sum(), x, allow_unused=True, materialize_grads=True)
            gradient = found.double()
    own = own.detach().double()
    largest, spread = float(given.abs().max()), float(given.max() - given.min())
    apart = float((own - given).abs().max())
    if not all(math.isfinite(one) for one in (largest, apart)) or not bool(gradient.isfinite().all()):
        return Parity(math.inf, same=precision.same)
    # where all logits lie close together and far from 0, rounding is larger than their range
    unit = spread or largest or 1.0
    logits, same = apart / unit, precision.same + 4 * precision.rounding * largest / unit
    if logits > same:
        return Parity(logits, same=same)
    file = _File(answer, images, weights, gradient, precision.rounding * max(largest, spread), unit)
    if precision.levels:
        return Parity(logits, *_by_levels(file, draws), same=same)
    along = _error(file, [gradient], precision)
    others = [_wavy(tuple(images.shape), draws, "bilinear", torch.randn).double() for _ in range(_DIRECTIONS)]
    return Parity(logits, along, _error(file, others, precision), same)


def _answers(answer: Answer, images: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(answer(np.ascontiguousarray(images.numpy())))).double()


@dataclasses.dataclass(frozen=True)
class _File:
    # the file around some images: one number per image, a mean of its scores under `weights`, and its slopes there
    answer: Answer
    images: Tensor
    weights: Tensor
    gradient: Tensor
    noise: float
    spread: float

    def change(self, step: Tensor) -> Tensor:
        """Return half of what a step to and fro moves the number by, `[N]`."""
        there, back = (_answers(self.answer, (self.images + way * step).float()) for way in (1, -1))
        return ((there - back) * self.weights).sum(1) / 2

    def expected(self, step: Tensor) -> Tensor:
        return (self.gradient * step).flatten(1).sum(1)


def _error(file: _File, directions: list[Tensor], precision: Precision) -> float:
    """Return how far central differences are from the gradient: of some lengths the first that is near, or the best."""
    errors = []
    for share in precision.steps:
        errors.append(_pooled(file, _scaled(directions, file, share, precision.furthest)))
        if errors[-1] <= SLOPE:
            break
    known = [one for one in errors if not math.isnan(one)]
    return min(known) if known else math.nan


def _scaled(directions: list[Tensor], file: _File, share: float, furthest: float) -> list[Tensor]:
    """Return steps in the directions, such that the twin says that they move the number by this share of its range.

    Those of an image are equally long: the one that moves it least is not to go furthest, over one kink after another.
    None moves a pixel out of sight.
    """
    units = [one / one.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, *[1] * (one.ndim - 1)) for one in directions]
    moved = torch.stack([file.expected(one) for one in units]).square().mean(0).sqrt()
    longest = torch.stack([one.flatten(1).abs().amax(1) for one in units]).amax(0)
    length = torch.minimum(share * file.spread / moved, furthest / longest).nan_to_num(0, 0, 0)
    return [one * length.view(-1, *[1] * (one.ndim - 1)) for one in units]


def _pooled(file: _File, steps: list[Tensor]) -> float:
    """Return the error of several steps of each image together, but for the worst quarter of them.

    NaN where all of them stay within rounding.
    """
    sizes = [step.flatten(1).norm(dim=1) for step in steps]
    found = torch.stack([file.change(step) / size for step, size in zip(steps, sizes, strict=True)])
    expected = torch.stack([file.expected(step) / size for step, size in zip(steps, sizes, strict=True)])
    noise = torch.stack([file.noise / size for size in sizes])
    larger = torch.maximum(found.abs(), expected.abs())
    told = larger > 4 * noise
    if not bool(told.any()):
        return math.nan
    apart = ((found - expected).abs() - noise).clamp_min(0)
    # steep slopes count as much as gentle ones, unless these are next to none
    unit = torch.where(told, larger, 0).square().sum(0).sqrt()
    unit = torch.maximum(unit, _GENTLE * unit.max())
    counted = told & (unit > 0)
    error, whole = ((one / unit)[counted].square() for one in (apart, larger))
    # a step over a kink tells nothing of the slope
    kept = error.argsort()[: math.ceil(_KEPT * len(error))]
    return float((error[kept].sum() / whole[kept].sum()).sqrt())


def _by_levels(file: _File, draws: torch.Generator) -> tuple[float, float]:
    """Return both errors for a file that sees whole grey levels: every step moves some pixels by one of them."""
    size = file.gradient.flatten(1).abs()
    order = size.argsort(1, descending=True)
    gained = size.gather(1, order).cumsum(1) * _LEVEL
    # as few pixels as move the number by a thousandth of its range
    few = (gained < 1e-3 * file.spread).sum(1, keepdim=True)
    chosen = torch.zeros_like(size).scatter(1, order, (torch.arange(size.shape[1]) <= few).double())
    along = _LEVEL * file.gradient.sign() * chosen.view_as(file.gradient)
    others = []
    for _ in range(2 * _DIRECTIONS):
        waves = _wavy(tuple(file.images.shape), draws, "nearest", torch.randn).double()
        others.append(_LEVEL * waves.sign() * (waves.abs() > 1.5))
    return _pooled(file, [along]), _pooled(file, others)


def _wavy(shape: tuple[int, ...], draws: torch.Generator, mode: str, of: object) -> Tensor:
    """Return random numbers on a coarse grid, drawn out to images: networks answer to such changes most."""
    assert callable(of)
    coarse = of((shape[0], shape[1], min(4, shape[2]), min(4, shape[3])), generator=draws)
    drawn: Tensor = F.interpolate(coarse, shape[2:], mode=mode)
    return drawn
