"""JSMA: the pair it picks is the best pair, and it stops where it must."""

from __future__ import annotations

import pytest
import torch

from assay.attacks.jsma import JSMA, Outputs, TargetAndRest, best_pair
from assay.core.errors import BadInput
from assay.core.goal import OutOfTop, Targeted, Untargeted
from tests.support.bench import case


@pytest.mark.parametrize("features", [2, 30, 700])
def test_the_best_pair_is_that_of_all_pairs(features: int) -> None:
    maker = torch.Generator().manual_seed(features)
    alpha, beta = torch.randn(6, features, generator=maker), torch.randn(6, features, generator=maker)
    free = torch.rand(6, features, generator=maker) < 0.9
    pair, gain = best_pair(alpha, beta, free)
    a, b = alpha[:, :, None] + alpha[:, None], beta[:, :, None] + beta[:, None]
    fits = (a > 0) & (b < 0) & free[:, :, None] & free[:, None] & ~torch.eye(features, dtype=torch.bool)
    best = torch.where(fits, -a * b, 0).flatten(1).amax(1)
    assert torch.allclose(gain, best)
    for i in (gain > 0).nonzero().flatten().tolist():
        assert pair[i, 0] != pair[i, 1]
        assert bool(free[i, pair[i]].all())


def test_the_objective_is_the_target_and_the_sum_of_the_rest() -> None:
    logits, y = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0])
    of = TargetAndRest(Outputs.LOGITS, 1.0)
    assert of(logits, Targeted(y, torch.tensor([1]))).tolist() == [[1.0, 5.0]]
    assert of(logits, Untargeted(y)).tolist() == [[2.0, 4.0]]
    assert of(logits, OutOfTop(y, 2)).tolist() == [[1.0, 5.0]]


def test_no_more_than_gamma_of_the_values_change() -> None:
    here = case("l0", "targeted")
    here = here.but(threat=here.threat.at(60))
    found = here.run(JSMA(gamma=0.1))
    assert bool((found.size <= 6).all())


@pytest.mark.parametrize("decreasing", [False, True])
def test_values_only_go_one_way(decreasing: bool) -> None:
    here = case("l0")
    here = here.but(threat=here.threat.at(60))
    move = here.run(JSMA(theta=0.5, decreasing=decreasing)).x - here.x
    assert bool((move != 0).any())
    assert bool((move <= 0 if decreasing else move >= 0).all())


def test_settings_that_cannot_be() -> None:
    with pytest.raises(BadInput, match="gamma"):
        JSMA(gamma=2)
    with pytest.raises(BadInput, match="theta"):
        JSMA(theta=0)
    with pytest.raises(BadInput, match="temperature"):
        JSMA(temperature=0)
