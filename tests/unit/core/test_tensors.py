"""Keeping some samples of anything batch-first."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.core.tensors import counts, flat, rows, take


class Inner(NamedTuple):
    points: Tensor
    t: int
    done: Tensor | bool


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    pair: tuple[Tensor, float]
    everyone: Tensor
    nothing: Tensor | None
    scalar: Tensor

    SHARED: ClassVar[tuple[str, ...]] = ("everyone",)


def outer(n: int) -> Outer:
    index = torch.arange(n)
    inner = Inner(index[:, None].repeat(1, 3), 7, index > 1)
    return Outer(inner, (index.double(), 2.5), torch.arange(9), None, torch.tensor(4.0))


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_take_reaches_everything(mask: list[bool]) -> None:
    keep = torch.tensor(mask)
    index = keep.nonzero().squeeze(1)
    for which in (keep, index):
        some = take(outer(len(mask)), which)
        assert type(some) is Outer
        assert type(some.inner) is Inner
        assert type(some.pair) is tuple
        assert torch.equal(some.inner.points[:, 0], index)
        assert some.inner.t == 7
        assert torch.equal(some.inner.done, index > 1)
        assert torch.equal(some.pair[0], index.double())
        assert some.pair[1] == 2.5
        assert torch.equal(some.everyone, torch.arange(9))
        assert some.nothing is None
        assert float(some.scalar) == 4.0


def test_take_can_reorder_and_repeat_and_keeps_the_original() -> None:
    value = outer(4)
    some = take(value, torch.tensor([3, 0, 3]))
    assert some.inner.points[:, 0].tolist() == [3, 0, 3]
    assert value.inner.points[:, 0].tolist() == [0, 1, 2, 3]
    some.inner.points[0] = 100
    assert value.inner.points[3, 0] == 3


def test_take_shares_what_has_no_rows() -> None:
    for value in (3, 2.5, "text", None, take, torch.nn.Linear(2, 2), Outer):
        assert take(value, torch.tensor([True])) is value


@pytest.mark.parametrize("value", [2.0, torch.tensor(2.0)])
def test_rows_lets_a_number_pass(value: float | Tensor) -> None:
    assert rows(value, torch.zeros(3, 2)) is value


def test_rows_flat_and_counts() -> None:
    like = torch.zeros(3, 2, 4)
    assert rows(torch.arange(3), like).shape == (3, 1, 1)
    assert (rows(torch.arange(3), like) + like)[2].unique().tolist() == [2]
    assert flat(like).shape == (3, 8)
    assert counts(like, 5).tolist() == [5, 5, 5]
    assert counts(like).dtype == torch.int64
