"""Batch-first helpers: broadcasting one value per sample, and keeping some samples of anything."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

T = TypeVar("T")


@overload
def rows(value: Tensor, like: Tensor) -> Tensor: ...
@overload
def rows(value: float, like: Tensor) -> float: ...
@overload
def rows(value: float | Tensor, like: Tensor) -> float | Tensor: ...
def rows(value: float | Tensor, like: Tensor) -> float | Tensor:
    """Shape a per-sample `[N]` value so that it broadcasts over `like` (`[N, ...]`); a number passes through."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value.reshape(len(value), *[1] * (like.ndim - 1))


class Valued(torch.autograd.Function):
    """The value of one tensor with the gradient of another, of the same shape: `Valued.apply(with_gradient, value)`."""

    @staticmethod
    def forward(_: Any, slope: Tensor, value: Tensor) -> Tensor:
        """Return a copy of the value."""
        return value.clone()

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on to the tensor that has one."""
        return grads[0], None


def valued(slope: Tensor, value: Tensor) -> Tensor:
    """Return `value` with the gradient of `slope`."""
    return Valued.apply(slope, value)  # type: ignore[no-any-return]  # autograd functions are untyped


def divisor(size: Tensor) -> Tensor:
    """Return sizes to divide by: 1 where there is nothing."""
    return torch.where(size > 0, size, 1)


def take(value: T, keep: Tensor) -> T:
    """Keep the rows `keep` (bool `[N]` or int64 indices) of anything batch-first.

    Tensors of one or more dimensions are indexed; tuples, named tuples and dataclasses are taken apart and
    put together again. A dataclass names in `SHARED` the fields that belong to all samples. Everything else
    (numbers, modules, functions) is shared.
    """
    # selecting by number costs a quarter of what a mask does, and the mask would be counted once per tensor
    at = keep.nonzero().squeeze(1) if keep.dtype == torch.bool else keep
    return _take(value, at)  # type: ignore[no-any-return]  # a T, which `_take` rebuilds from its parts


def _take(value: Any, at: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(0, at) if value.ndim else value
    if isinstance(value, tuple):
        parts = [_take(part, at) for part in value]
        return tuple(parts) if type(value) is tuple else type(value)(*parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shared = getattr(value, "SHARED", ())
        changed = {
            field.name: _take(getattr(value, field.name), at)
            for field in dataclasses.fields(value)
            if field.name not in shared
        }
        same = all(new is getattr(value, name) for name, new in changed.items())
        return value if same else dataclasses.replace(value, **changed)
    return value


def flat(value: Tensor) -> Tensor:
    """View `[N, ...]` as `[N, D]`."""
    return value.reshape(len(value), -1)


def counts(like: Tensor, value: int = 0) -> Tensor:
    """Return int64 `[N]` counters, one per row of `like`, on its device."""
    return torch.full((len(like),), value, dtype=torch.int64, device=like.device)
