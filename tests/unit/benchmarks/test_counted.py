"""The model under attack counts rows whoever asks, and the watch sees the first success and nothing past the limit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from benchmarks.strength.counted import Counted, Spent, Watch, answers, sizes, wrong


class Sums(nn.Module):
    """Class 1 wins where the sum of the pixels is above 2."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.flatten(1).sum(1)
        return torch.stack([torch.full_like(total, 2.0), total, torch.zeros_like(total)], 1)


def counted() -> Counted:
    return Counted(Sums(), (1, 2, 2), 3).eval()


def test_forward_rows_are_counted_with_and_without_gradients() -> None:
    model = counted()
    model(torch.zeros(3, 1, 2, 2))
    with torch.no_grad():
        model(torch.zeros(4, 1, 2, 2))
    assert (model.forwards, model.backwards) == (7, 0)


def test_every_backward_through_the_logits_is_counted() -> None:
    model, x = counted(), torch.zeros(3, 1, 2, 2, requires_grad=True)
    logits = model(x)
    for column in range(3):
        torch.autograd.grad(logits[:, column].sum(), x, retain_graph=True)
    assert (model.forwards, model.backwards) == (3, 9)
    model(x).sum().backward()
    assert (model.forwards, model.backwards) == (6, 12)


def test_doubles_are_taken_and_probabilities_given_on_demand() -> None:
    model = Counted(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2), 3)
    assert model(torch.zeros(1, 1, 2, 2, dtype=torch.float64)).dtype == torch.float32
    model.as_probabilities = True
    torch.testing.assert_close(model(torch.rand(5, 1, 2, 2)).sum(1), torch.ones(5))


def test_the_likeliest_wrong_class_is_never_the_label() -> None:
    x = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 2, 2)
    assert counted().likeliest_wrong(x, torch.tensor([0, 1])).tolist() == [1, 0]


@pytest.mark.parametrize(("norm", "size"), [("linf", 0.5), ("l2", math.sqrt(0.5)), ("l1", 1.0), ("l0", 2.0)])
def test_sizes(norm: str, size: float) -> None:
    x = torch.full((1, 1, 2, 2), 0.25)
    z = x + torch.tensor([[[[0.5, 0.0], [0.5, 1e-8]]]])
    assert float(sizes(z, x, norm)) == pytest.approx(size)


def test_an_unknown_norm_is_named() -> None:
    with pytest.raises(ValueError, match="'l3'"):
        sizes(torch.zeros(1, 1), torch.zeros(1, 1), "l3")


def test_a_point_on_the_boundary_counts_and_one_before_it_does_not() -> None:
    logits = torch.tensor([[2.0, 2.0, 0.0], [2.0, 1.99, 0.0], [1.0, 2.0, 0.0]])
    assert wrong(logits, torch.zeros(3, dtype=torch.long)).tolist() == [True, False, True]


def test_answers_come_in_order() -> None:
    x = torch.rand(230, 1, 2, 2)
    torch.testing.assert_close(answers(Sums(), x), Sums()(x))


def points(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None].expand(len(values), 1, 2, 2)


def watched(eps: float | None, limit: int) -> Counted:
    model = counted()
    model.watch = Watch(points(0.0), torch.tensor([0]), "linf", eps, limit)
    return model


def test_the_watch_numbers_the_first_success_within_the_budget() -> None:
    model = watched(0.6, 100)
    model(points(0.1, 0.9))  # 0.9 is broken, but outside the budget
    with pytest.raises(Spent):
        model(points(0.2, 0.55, 0.6))
    assert model.watch is not None
    assert (model.watch.first, model.watch.asked) == (4, 5)


def test_the_watch_without_a_budget_keeps_the_nearest_success_up_to_the_limit() -> None:
    model = watched(None, 5)
    model(points(0.9, 0.8, 0.1))
    with pytest.raises(Spent):
        model(points(0.7, 0.65, 0.51, 0.505))
    assert model.watch is not None
    # the sixth and seventh query were not paid for
    assert (model.watch.first, model.watch.smallest) == (1, pytest.approx(0.65))


def test_points_outside_the_box_are_judged_inside_it() -> None:
    model = watched(None, 2)
    model.watch.x = points(0.5)
    with pytest.raises(Spent):
        model(points(7.0, 7.0))
    assert model.watch is not None
    assert model.watch.smallest == pytest.approx(0.5)
