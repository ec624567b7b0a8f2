"""A deployed model as a module of torch: a file's or a server's own answers, with the gradients of a twin."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, autograd, nn

Answer = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
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
        answers: Tensor = _Judged.apply(self.twin(x), given)
        return answers

    def extra_repr(self) -> str:
        """Say nothing of the function: what it answers from is said by the classifier's `identity`."""
        return ""


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
