"""The optimisers against torch's own, on a function with a curvature of its own in every direction."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.parts.optimisers import Adam, Moments, Momentum, Rolling
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Targeted
from assay.core.objective import margin
from assay.core.oracle import Access, TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps, Limits, Resume, SearchResult, search
from assay.core.threat import LINF, UNBOXED, Threat

STEPS = 150
CURVES = torch.linspace(0.05, 3, 12, dtype=torch.float64)


class Hill(nn.Module):
    """Logits `[0, height]` of a hill that is steep along some axes and flat along others, with ripples."""

    def forward(self, x: Tensor) -> Tensor:
        height = -(CURVES * (x.flatten(1) - 1).square()).sum(1) + (3 * x.flatten(1)).sin().sum(1)
        return torch.stack([torch.zeros_like(height), height], 1)


def begin(n: int = 3) -> Tensor:
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def climbed(attack: Any, n: int = 3, problem: Problem | None = None, **more: Any) -> SearchResult:
    goal = Targeted(torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.int64))
    problem = problem or Problem(TorchOracle(Hill()), begin(n), goal, Threat(LINF, box=UNBOXED))
    terms = Limits(judge_last=False)
    return search(attack, problem, Draws(torch.arange(n)), keeps=Keeps.LAST, terms=terms, **more)


@pytest.mark.parametrize("momentum", [0.0, 0.8, 0.95])
def test_momentum_is_sgd_on_the_negative(momentum: float) -> None:
    found = climbed(Momentum(STEPS, 0.01, momentum, margin))
    expected = by_torch(lambda p: torch.optim.SGD([p], lr=0.01, momentum=momentum))
    torch.testing.assert_close(found.x, expected, atol=1e-6, rtol=0)
    assert found.forwards.tolist() == found.backwards.tolist() == [STEPS] * 3


@pytest.mark.parametrize("rate", [0.001, 0.1])
def test_adam_is_adam_on_the_negative(rate: float) -> None:
    expected = by_torch(lambda p: torch.optim.Adam([p], lr=rate))
    torch.testing.assert_close(climbed(Adam(STEPS, rate, margin)).x, expected, atol=1e-6, rtol=0)


def by_torch(optimizer_of: Any) -> Tensor:
    variable = begin().requires_grad_(True)
    optimizer = optimizer_of(variable)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (-Hill()(variable)[:, 1].sum()).backward()
        optimizer.step()
    return variable.detach()


@pytest.mark.parametrize("attack", [Momentum(20, 0.05, objective=margin), Adam(20, 0.3, margin)])
def test_they_stay_inside_the_budget_and_begin_at_the_start(attack: Any) -> None:
    goal = Targeted(torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64))
    problem = Problem(TorchOracle(Hill()), begin(), goal, Threat(LINF, 0.1), begin() + 0.05)
    heard: list[Any] = []
    found = climbed(attack, problem=problem, course=Resume(watch=lambda look, state, seen: heard.append(state)))
    size = (found.x - begin()).abs()
    assert float(size.max()) == pytest.approx(0.1, abs=1e-6) and 0 <= float(found.x.min()) <= float(found.x.max()) <= 1
    assert isinstance(heard[0], Rolling | Moments) and len(heard) == 20
    assert torch.equal(attack.init(problem, Draws(torch.arange(3))).query, begin() + 0.05)
    assert torch.equal(attack.init(dataclasses.replace(problem, start=None), Draws(torch.arange(3))).query, begin())


@pytest.mark.parametrize("attack", [Momentum(30, 0.01, objective=margin), Adam(30, 0.1, margin)])
@pytest.mark.parametrize("stop", [1, 17, 30])
def test_a_state_is_all_that_a_search_needs_to_go_on(attack: Any, stop: int) -> None:
    class Interrupted(Exception):
        pass

    kept: list[Any] = []

    def watch(look: int, state: Any, seen: Any) -> None:
        # what a file holds: plain values, copied before anything can change them
        kept[:] = [look, tuple(v.clone() if isinstance(v, Tensor) else v for v in state)]
        if look == stop:
            raise Interrupted

    whole = climbed(attack)
    with pytest.raises(Interrupted):
        climbed(attack, course=Resume(watch=watch))
    look, values = kept
    kind = Rolling if isinstance(attack, Momentum) else Moments
    rest = climbed(attack, course=Resume(look, kind(*values)))  # type: ignore[arg-type]
    assert torch.equal(rest.x, whole.x) and rest.forwards.tolist() == [30 - stop] * 3


@pytest.mark.parametrize("look", [-1, 31])
def test_a_search_cannot_go_on_beyond_its_end(look: int) -> None:
    with pytest.raises(BadInput, match=f"A search of 30 steps cannot go on from look {look}"):
        climbed(Adam(30, 0.1, margin), course=Resume(look))


def test_they_ask_for_gradients() -> None:
    assert Momentum.access is Adam.access is Access.GRADIENT
