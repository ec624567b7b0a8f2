"""A deployed model as a module of torch: a file's or a server's own answers, with the gradients of a twin."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, autograd, nn

from assay.models.classifier import Classifier

Array = np.ndarray[Any, Any]
Answer = Callable[[Array], Array]
"""From float32 images `[N, C, H, W]` in [0, 1] to float32 scores `[N, K]`."""

_ALONE: contextvars.ContextVar[bool] = contextvars.ContextVar("whether twins answer for themselves", default=False)


@contextlib.contextmanager
def twins_alone() -> Iterator[None]:
    """Let twins answer in the place of their deployed models meanwhile: for who looks into a network."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


class Deployed(nn.Module):
    """A model that answers outside of torch. Whatever is judged, and whatever a search reads, is its own answer.

    `answer` gives its scores. A `twin` is the same network in torch, or one that is close to it: where a gradient is
    asked for, it is the twin's at that image, of an objective that is computed from the deployed model's scores.
    Such a look takes two passes, see `LookPasses.climbing`.

    An `answer` may have a `floor`, the log-probability that stands for all below it, since they were rounded to 0.
    Where a gradient is asked for, the twin tells those apart: else it would point to no class in particular.
    """

    def __init__(self, answer: Answer, twin: nn.Module | None = None) -> None:
        super().__init__()
        self.answer = answer
        self.twin = twin

    def forward(self, x: Tensor) -> Tensor:
        """Return the deployed model's scores `[N, K]` of images `[N, C, H, W]`."""
        if self.twin is not None and _ALONE.get():
            own: Tensor = self.twin(x)
            return own
        asked = np.ascontiguousarray(x.detach().to("cpu", torch.float32).numpy())
        given = torch.from_numpy(np.ascontiguousarray(self.answer(asked))).to(x.device)
        if self.twin is None or not (torch.is_grad_enabled() and x.requires_grad):
            return given
        climbed = self.twin(x)
        floor = getattr(self.answer, "floor", None)
        if floor is not None:
            given = _told_apart(given, climbed.detach(), float(floor))
        answers: Tensor = _Judged.apply(climbed, given)
        return answers

    def extra_repr(self) -> str:
        """Say nothing of the function: what it answers from is said by the classifier's `identity`."""
        return ""


class ModuleAnswers:
    """What a module answers, asked with arrays. Whoever looks for networks inside of a model finds none in it."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._module = module
        self._device = device

    def __call__(self, rows: Array) -> Array:
        """Return float32 scores `[N, K]` of images float32 `[N, C, H, W]`."""
        with torch.no_grad():
            scores: Tensor = self._module(torch.from_numpy(rows).to(self._device))
        answers: Array = scores.detach().float().cpu().numpy()
        return answers

    def __deepcopy__(self, memo: dict[int, Any]) -> ModuleAnswers:
        return self


def answer_of(model: Classifier) -> Answer:
    """Return what answers for a model: a deployed model's own answer, with its floor and step, else its module."""
    module = model.module
    return module.answer if isinstance(module, Deployed) else ModuleAnswers(module, model.module_device)


def step_of(model: Classifier) -> float:
    """Return the step between two neighbouring answers of a deployed file that says it; 0 for any other model."""
    answers = (one.answer for one in model.module.modules() if isinstance(one, Deployed))
    return max((float(getattr(one, "step", 0.0)) for one in answers), default=0.0)


def _told_apart(given: Tensor, twin: Tensor, floor: float) -> Tensor:
    """Return log-probabilities in which those at the floor are the twin's, at most the floor.

    Whatever lies above the floor stays the deployed model's own, and so does the answer, which lies above it.
    """
    if given.shape != twin.shape:
        return given
    at = given <= floor + 1e-5 * abs(floor)
    finer = torch.where(at, twin.log_softmax(1).to(given.dtype).clamp_max(floor), given)
    # where all are at the floor, the deployed model's answer is the first class
    return torch.where(at.all(1, keepdim=True), given, finer)


class _Judged(autograd.Function):
    # the values of the one, the gradient of the other; a sum of differences would round

    @staticmethod
    def forward(ctx: Any, climbed: Tensor, given: Tensor) -> Tensor:
        if climbed.shape != given.shape:
            raise ValueError(f"the twin answers {list(climbed.shape)}, and the deployed model {list(given.shape)}")
        return given.to(climbed.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
