"""Attacks that look for the smallest change: the exact distance on a linear model, and what is special about each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assay.attacks.alma import ALMA, penalty_slope
from assay.attacks.ddn import DDN, anywhere
from assay.attacks.fmn import FMN
from assay.attacks.pdpgd import PDPGD
from assay.attacks.sigma_zero import SigmaZero
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Targeted, Untargeted
from assay.core.objective import cross_entropy
from assay.core.search import Attack
from assay.core.threat import NORMS, UNBOXED, Threat
from tests.support.bench import Case, Linear

D, K, N = 60, 5, 12
MAKER = torch.Generator().manual_seed(11)
WEIGHT, BIAS = 0.25 * torch.randn(D, K, generator=MAKER), 0.25 * torch.randn(K, generator=MAKER)
X = torch.rand(N, 3, 4, 5, generator=MAKER)
Y = (X.flatten(1) @ WEIGHT + BIAS).argmax(1)


def found(attack: Attack, norm: str, box=UNBOXED, times: float = 1.0):
    model = Linear(times * WEIGHT, times * BIAS)
    return Case(model, X, Untargeted(Y), Threat(NORMS[norm], torch.inf, box)).run(attack)


def distance(norm: str) -> Tensor:
    logits = X.flatten(1) @ WEIGHT + BIAS
    order = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    apart = torch.linalg.vector_norm(WEIGHT[:, None, :] - WEIGHT[:, :, None], order, dim=0)
    gap = logits.gather(1, Y[:, None]) - logits
    return torch.where(gap > 0, gap / apart[Y].clamp_min(1e-9), torch.inf).amin(1)


@pytest.mark.parametrize(
    ("attack", "norm", "within"),
    [
        (DDN(100), "l2", 1.01),
        (FMN(100), "l2", 1.02),
        (FMN(100), "linf", 1.25),
        (FMN(100), "l1", 1.25),
        (ALMA(300), "l2", 1.02),
        (ALMA(300), "l1", 1.25),
        (PDPGD(500), "l2", 1.25),
        (PDPGD(500), "linf", 1.25),
        (PDPGD(500), "l1", 1.25),
    ],
)
def test_the_distance_of_a_linear_model(attack: Attack, norm: str, within: float) -> None:
    exact, result = distance(norm), found(attack, norm)
    assert bool(result.success.all())
    assert bool((result.size >= 0.999 * exact).all())
    assert float((result.size / exact).median()) <= within


def test_fewest_values() -> None:
    """No other wrong class is fewer values away than the greedy choice of the best values towards each."""
    w = WEIGHT.T[None] - WEIGHT.T[Y][:, None]
    logits = X.flatten(1) @ WEIGHT + BIAS
    need = logits.gather(1, Y[:, None]) - logits
    room = torch.where(w > 0, 1 - X.flatten(1)[:, None], X.flatten(1)[:, None])
    gains = (w.abs() * room).sort(2, descending=True).values.cumsum(2)
    count = (gains <= need[..., None]).sum(2) + 1
    count.scatter_(1, Y[:, None], D)
    exact = count.amin(1)
    for attack, within in ((SigmaZero(100), 1.25), (FMN(100), 1.25)):
        result = found(attack, "l0", (0.0, 1.0))
        assert bool(result.success.all())
        assert bool((result.size >= exact).all())
        assert float((result.size / exact).mean()) <= within, type(attack).__name__


def test_the_penalty_of_alma_is_the_slope_of_p2() -> None:
    y = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    m, p = torch.tensor(1.5, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    held, violated = m * y / (1 - p * y.clamp(max=0)), m * y + m * p * y**2 + p**2 * y**3 / 6
    (slope,) = torch.autograd.grad(torch.where(y >= 0, violated, held).sum(), y)
    assert torch.allclose(penalty_slope(y.detach(), p, m), slope)


@pytest.mark.parametrize("classes", [2, K])
@pytest.mark.parametrize("times", [1e-4, 1e4, 1e8])
def test_alma_does_not_feel_the_scale_of_the_logits(classes: int, times: float) -> None:
    def sizes(factor: float) -> Tensor:
        weight, bias = factor * WEIGHT[:, :classes], factor * BIAS[:classes]
        y = (X.flatten(1) @ weight + bias).argmax(1)
        found = Case(Linear(weight, bias), X, Untargeted(y), Threat(NORMS["l2"], torch.inf, UNBOXED)).run(ALMA(100))
        assert bool(found.success.all())
        return found.size

    assert float((sizes(times) / sizes(1.0)).max()) < 1.05


@pytest.mark.parametrize("rank", [2, K - 1])
@pytest.mark.parametrize("attack", [ALMA(300), DDN(100), FMN(100)], ids=lambda one: type(one).__name__)
def test_a_target_of_any_rank_is_reached(attack: Attack, rank: int) -> None:
    target = (X.flatten(1) @ WEIGHT + BIAS).argsort(1, descending=True)[:, rank]
    goal = Targeted(Y, target)
    assert bool(Case(Linear(WEIGHT, BIAS), X, goal, Threat(NORMS["l2"], torch.inf)).run(attack).success.all())


def test_a_look_without_numbers_does_not_end_alma() -> None:
    class Stumbling(Linear):
        looks = 0

        def forward(self, x: Tensor) -> Tensor:
            self.looks += 1
            logits: Tensor = super().forward(x)
            return logits * torch.nan if self.looks in (3, 5, 8) else logits

    case = Case(Stumbling(WEIGHT, BIAS), X, Untargeted(Y), Threat(NORMS["l2"], torch.inf))
    assert bool(case.run(ALMA(100)).success.all())


def test_alma_refuses_a_norm_without_a_gradient() -> None:
    with pytest.raises(BadInput, match="no gradient of linf to descend"):
        found(ALMA(5), "linf")


def test_ddn_is_not_blinded_by_large_logits() -> None:
    """What a network distilled at a high temperature does to the cross-entropy."""
    plain, inflated = found(DDN(60), "l2"), found(DDN(60), "l2", times=1e4)
    assert bool(inflated.success.all())
    assert float((inflated.size / plain.size).max()) < 1.05
    assert not bool(found(DDN(60, objective=cross_entropy), "l2", times=1e4).size.median() < plain.size.median())


@pytest.mark.parametrize("radius", [0.01, 30.0])
def test_ddn_recovers_from_a_bad_first_radius(radius: float) -> None:
    result = found(DDN(60, radius=radius), "l2")
    assert float((result.size / distance("l2")).max()) < 1.1


def test_a_direction_where_there_is_none_and_only_there() -> None:
    grad = torch.zeros(3, 1, 2, 2)
    grad[1] = 1e-42
    draws = Draws.of(["a", "b", "c"], 0)
    got = anywhere(grad, draws)
    assert torch.equal(got[1], grad[1])
    assert bool((got[[0, 2]] != 0).all())
    assert torch.equal(anywhere(grad[2:], draws.take(torch.tensor([2])))[0], got[2])


def test_sigma_zero_changes_nothing_a_little() -> None:
    result = found(SigmaZero(60), "l0", (0.0, 1.0))
    change = (result.x - X).flatten(1).abs()
    assert bool((result.size == (change > 0).sum(1)).all())
    assert bool((result.size < D / 4).all())
