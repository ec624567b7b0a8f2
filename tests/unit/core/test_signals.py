"""A refusal as one more class: the answer is exact, whatever rounding does, and attacks get its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assay.core.draws import Draws, current, drawing
from assay.core.errors import ModelError
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.oracle import Access, LookPasses, TorchOracle
from assay.core.signals import Asked, Signals, excess_of, signals_of, with_refusal


def test_refused_exactly_where_the_excess_is_above_zero() -> None:
    top = torch.tensor([0.0, 1.0, -3.0, 1e6, -1e6, 12345.678, 1e-20])
    for excess in (0.0, 1e-30, -1e-30, 1e-9, -1e-9, 0.5, -0.5, 1e7):
        logits = torch.stack([top, top - 1e-3 - top.abs()], 1)
        joined = with_refusal(Signals(logits, torch.full_like(top, excess)))
        refused = joined.argmax(1) == 2
        assert refused.tolist() == [excess > 0] * len(top), excess
        assert torch.equal(joined[:, :2], logits)


def test_a_rounded_refusal_keeps_its_gradient() -> None:
    excess = torch.tensor([1e-12], requires_grad=True)
    logits = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    joined = with_refusal(Signals(logits, excess))
    assert joined[0, 2] > joined[0, 0]
    slope, own = torch.autograd.grad(joined[0, 2], [excess, logits])
    assert slope.item() == 1 and own[0].tolist() == [1, 0]


def test_a_network_that_refuses_nothing_is_asked_as_it_is() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x = torch.rand(2, 1, 2, 2)
    seen = signals_of(net, x)
    assert seen.excess is None and torch.equal(with_refusal(seen), net(x))
    with pytest.raises(ModelError, match="no views to attack"):
        Asked(net, "views")(x)


def test_a_nan_score_is_no_answer() -> None:
    joined = with_refusal(Signals(torch.tensor([[1.0, 0.0]]), torch.tensor([torch.nan])))
    assert joined[0, 2].isnan() and excess_of(joined).isnan()


def test_margin_with_refusal_is_the_lesser_of_both() -> None:
    # classes 0 (the label) and 1; refused by .5 where the wrong class leads by 2
    logits = torch.tensor([[0.0, 2.0]])
    goal = Untargeted(torch.tensor([0]), reject=-1)
    for excess, gap in ((0.5, -0.5), (-0.5, 0.5), (-7.0, 2.0)):
        assert goal.gap(with_refusal(Signals(logits, torch.tensor([excess])))).item() == pytest.approx(gap)


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) + current(x).normal("noise", x[0].numel())


def test_equal_looks_draw_equal_numbers_row_by_row() -> None:
    x, y = torch.rand(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64)
    draws = Draws(torch.arange(6)).at(3)
    asked = {
        batch: TorchOracle(Noisy(), batch, random=True).look(x, Untargeted(y), margin, Access.GRADIENT, draws).logits
        for batch in (1, 4, None)
    }
    assert torch.equal(asked[1], asked[4]) and torch.equal(asked[1], asked[None])
    other = TorchOracle(Noisy(), random=True).look(x, Untargeted(y), margin, Access.SCORES, draws.at(4)).logits
    assert not torch.equal(other, asked[1])
    # a plain call draws afresh, from torch's generator
    torch.manual_seed(0)
    first, second = Noisy()(x), Noisy()(x)
    torch.manual_seed(0)
    assert not torch.equal(first, second) and torch.equal(Noisy()(x), first)
    with drawing(draws):
        assert torch.equal(Noisy()(x), Noisy()(x))


def test_passes_are_those_of_the_network_and_queries_those_of_the_attack() -> None:
    x, y = torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)
    oracle = TorchOracle(nn.Flatten(), passes=LookPasses(3, 2, 1))
    cost = oracle.look(x, Untargeted(y), margin, Access.GRADIENT, Draws(torch.arange(3))).cost
    assert [part.tolist() for part in cost] == [[3] * 3, [3] * 3, [1] * 3]
    # a step that shows 30 copies, in front of a detector that shows three and goes back once by itself
    assert LookPasses(3, 3, 1).inside(LookPasses(30, 30)) == LookPasses(90, 90, 30)
