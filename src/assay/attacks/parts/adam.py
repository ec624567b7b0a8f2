"""Adam's memory (Kingma and Ba 2015), for the attacks that step by it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from assay.core.tensors import rows

_BETAS = (0.9, 0.999)


class Momenta(NamedTuple):
    """Running means of the gradient and of its square."""

    mean: Tensor
    square: Tensor

    @staticmethod
    def none(like: Tensor) -> Momenta:
        """Return no memory."""
        return Momenta(torch.zeros_like(like), torch.zeros_like(like))

    def after(self, grad: Tensor) -> Momenta:
        """Return the means with one more gradient."""
        mean = _BETAS[0] * self.mean + (1 - _BETAS[0]) * grad
        return Momenta(mean, _BETAS[1] * self.square + (1 - _BETAS[1]) * grad.square())

    def metric(self, t: int | Tensor) -> Tensor:
        """Return the size of each value's gradient after `t` of them (a number, or `[N]`)."""
        return (self.square / rows(1 - _BETAS[1] ** t, self.square)).sqrt() + 1e-8

    def direction(self, t: int | Tensor) -> Tensor:
        """Return the step of unit rate after `t` gradients: the mean, each value in units of its own size."""
        return self.mean / rows(1 - _BETAS[0] ** t, self.mean) / self.metric(t)

    def where(self, forgets: Tensor) -> Momenta:
        """Return the means, forgotten in the rows `forgets` (`[N]`)."""
        gone = rows(forgets, self.mean)
        return Momenta(self.mean.masked_fill(gone, 0), self.square.masked_fill(gone, 0))
