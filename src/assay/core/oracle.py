"""The oracle: the only caller of the model.

It answers `look(points, goal, objective, access, draws)` with logits, objective, verdict and, where asked, the
gradient with respect to the input, and says what the look cost. It is stateless: costs come back in the answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import ModelError
from assay.core.goal import Goal
from assay.core.objective import Objective
from assay.core.tensors import counts, take


class Access(enum.IntEnum):
    """What an attack may see: the label alone, the scores, or the gradient as well."""

    LABELS = 0
    SCORES = 1
    GRADIENT = 2


class Cost(NamedTuple):
    """Rows that went forward and backward through the innermost model, int64 `[N]`, for one look."""

    forwards: Tensor
    backwards: Tensor


class Seen(NamedTuple):
    """What a look saw; every tensor is batch-first. `grad` is `[N, *S]`, or `[N, R, *S]` for a vector objective.

    `judged` is bool `[N]`: whether `logits` are those of the points themselves; None where all are.
    """

    logits: Tensor
    loss: Tensor
    gap: Tensor
    reached: Tensor
    grad: Tensor | None
    cost: Cost
    judged: Tensor | None = None


class Oracle(Protocol):
    """Anything that answers looks: the model itself, or an oracle around an oracle."""

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Seen:
        """Ask the model about `points` `[N, *S]`."""


@dataclasses.dataclass(frozen=True)
class Direct:
    """The model as it is: `[N, C, H, W]` in, logits `[N, K]` out.

    `batch` bounds the rows of one pass (`None`: by the image size). When memory runs out it is halved and the smaller
    size is remembered in `fits`; results do not depend on it beyond floating point. `cleaned=False` gives gradients
    as they are, NaN included: for who measures them, not for attacks.
    """

    model: nn.Module
    batch: int | None = None
    fits: list[int] = dataclasses.field(default_factory=list, compare=False, repr=False)
    cleaned: bool = True

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Seen:
        """Ask the model; see `Oracle`. Raises `ModelError` for an output that is no `[N, K]` tensor."""
        size = min([self.batch or micro_batch(points, access is Access.GRADIENT), *self.fits])
        climbed = objective if access is Access.GRADIENT else None
        parts: list[_Part] = []
        at = 0
        while at < len(points):
            here = slice(at, min(at + size, len(points)))
            try:
                parts.append(self._pass(points, here, goal, climbed))
            except RuntimeError as error:
                if size == 1 or not out_of_memory(error):
                    raise
                size = max(1, (here.stop - at) // 2)
                self.fits.append(size)
                continue
            at = here.stop
        # judged together: the goal's small sums would cost as much for each part
        logits, loss, grad, backwards = parts[0] if len(parts) == 1 else _join(parts)
        cost = Cost(counts(points, 1), counts(points, backwards))
        loss = objective(logits, goal) if loss is None else loss
        return Seen(logits, loss, goal.gap(logits), goal.reached(logits), grad, cost)

    @functools.cached_property
    def _layout(self) -> torch.memory_format:
        convolves = any(isinstance(module, nn.Conv2d) for module in self.model.modules())
        return torch.channels_last if convolves else torch.preserve_format

    def _pass(self, points: Tensor, rows: slice, goal: Goal, climbed: Objective | None) -> _Part:
        part = points[rows].detach().requires_grad_(climbed is not None)
        layout = self._layout if points.ndim == 4 else torch.preserve_format
        with torch.set_grad_enabled(climbed is not None):
            # a copy: a model that normalises in place must change neither the query nor the caller's images; and
            # clone, unlike contiguous, lays out the strides of images of one channel too, which convolutions go by
            logits = checked_logits(self.model(part.clone(memory_format=layout)), len(part))
            if climbed is None:
                return _Part(logits.detach(), None, None, 0)
            whole = len(part) == len(points)
            own = goal if whole else take(goal, torch.arange(rows.start, rows.stop, device=points.device))
            loss = climbed(logits, own)
            grad, backwards = input_gradient(loss, part, self.cleaned)
        return _Part(logits.detach(), loss.detach(), grad, backwards)


class _Part(NamedTuple):
    # of a look; what is not asked for is None
    logits: Tensor
    loss: Tensor | None
    grad: Tensor | None
    backwards: int


def micro_batch(points: Tensor, backward: bool = True) -> int:
    """Return how many rows to pass at once: near the fastest measured on CPUs, larger on accelerators.

    Passes without a `backward` keep no activations in the caches, and small networks gain by fewer of them.
    """
    values = max(1, math.prod(points.shape[1:]))
    most = (40 if backward else 100) if points.device.type == "cpu" else 1024
    budget = 2_400_000 if points.device.type == "cpu" else 40_000_000
    return max(1, min(most, budget // values))


def input_gradient(loss: Tensor, points: Tensor, cleaned: bool = True) -> tuple[Tensor, int]:
    """Return the gradient of `loss` (`[N]` or `[N, R]`) per row, and how many backward passes it took.

    Unless `cleaned` is False, values that are not finite become 0 or very large: one NaN must not end a sample's
    attack and flatter the model.
    Raises `ModelError` where autograd was kept from seeing the model: an attack on it would move nothing.
    """
    columns = [loss] if loss.ndim == 1 else list(loss.unbind(1))
    grads = []
    for i, column in enumerate(columns):
        if not column.requires_grad:
            raise ModelError(
                "The model's output has no gradient: its forward detaches it or runs under torch.no_grad() or "
                "inference_mode (leave it, and do not call inside it), or does not depend on the image at all. "
                "Gradient attacks cannot measure such a model."
            )
        more = i + 1 < len(columns)
        (grad,) = torch.autograd.grad(column.sum(), points, retain_graph=more, materialize_grads=True)
        grads.append(grad.nan_to_num(0.0, 1e15, -1e15) if cleaned else grad)
    if loss.ndim == 1:
        return grads[0], 1
    return (grads[0][:, None] if len(grads) == 1 else torch.stack(grads, 1)), len(columns)


def checked_logits(output: object, n: int) -> Tensor:
    """Return the model's output as logits `[n, K]`, or raise `ModelError` saying what came instead."""
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The model returned a {type(output).__name__}, expected one tensor of logits [N, K]. "
            "Wrap it in a module whose forward returns the logits alone."
        )
    if output.ndim != 2 or len(output) != n or not output.is_floating_point():
        raise ModelError(
            f"The model returned {list(output.shape)} of {output.dtype} for {n} images, expected floating-point logits "
            f"[{n}, K]. Wrap it in a module whose forward returns one row of class scores per image."
        )
    if output.shape[1] < 2:
        raise ModelError(
            f"The model returned one score per image ([{n}, {output.shape[1]}]), expected two classes or more. "
            "Wrap a binary model so that it returns the logits [0, score]."
        )
    return output


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that a smaller batch could work."""
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in signs)


def _join(parts: list[_Part]) -> _Part:
    logits, losses, grads, _ = zip(*parts, strict=True)
    loss = None if losses[0] is None else torch.cat(losses)
    return _Part(torch.cat(logits), loss, None if loss is None else torch.cat(grads), parts[0].backwards)


@contextlib.contextmanager
def frozen(model: nn.Module, *, training: bool | None = False) -> Iterator[nn.Module]:
    """Hold the model still while it is measured: parameters without gradients, every module in eval mode.

    `training=None` leaves the modes as they are (for the inner search of adversarial training). On leaving, the
    mode of every single module and the flag of every parameter are as before. Convolution weights are laid out
    channels-last, which changes their speed and not their values.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        if training is not None:
            model.train(training)
        for parameter, _ in flags:
            parameter.requires_grad_(False)
            if parameter.ndim == 4:
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
        yield model
    finally:
        # a module's own attribute, not train(): a parent must not overrule its children
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
