"""Images of two pixels, where every point of the ball can be tried."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.gradient import PGD
from assay.core.compose import Cascade, EachTarget, Method, Restarts
from assay.core.goal import Goal, OutOfTop, Targeted, Untargeted
from assay.core.objective import dlr, margin, scaled_cross_entropy
from assay.core.oracle import frozen
from assay.core.sweep import sweep
from assay.core.threat import NORMS, Threat
from assay.vocabulary import Order, Question
from tests.support.bench import VECTOR_PAIRS, Case, make

PITCH = 1 / 256
N = 30


class Wavy(nn.Module):
    """Three classes whose regions wind through the square."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
        self.head = nn.Linear(16, 3)
        with torch.no_grad():
            self.net[1].weight.mul_(6)
            self.net[3].weight.mul_(3)
            # each class somewhere: no constant ahead of the others
            middle = self.net(torch.rand(500, 1, 1, 2)).mean(0)
            self.head.bias.copy_(-self.head.weight @ middle)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x))


MODEL = Wavy()
X = torch.rand(N, 1, 1, 2, generator=torch.Generator().manual_seed(5))
with torch.no_grad():
    LOGITS = MODEL(X)
    Y = LOGITS.argmax(1)
    AXIS = torch.arange(0, 1 + PITCH / 2, PITCH)
    POINTS = torch.cartesian_prod(AXIS, AXIS)
    EVERYWHERE = MODEL(POINTS[:, None, None])
RUNNER_UP = LOGITS.topk(2, 1).indices[:, 1]
GOALS = {"untargeted": Untargeted(Y), "targeted": Targeted(Y, RUNNER_UP), "out-of-top": OutOfTop(Y, 2)}


def brute_force(norm: str, eps: float, goal: Goal) -> Tensor:
    """Return bool `[N]`: whether any point of the fine grid inside the ball reaches the goal."""
    broken = []
    for i in range(N):
        u = (POINTS - X[i].flatten()).abs()
        size = {"linf": u.amax(1), "l2": u.norm(dim=1), "l1": u.sum(1), "l0": (u > 0).sum(1)}[norm]
        inside = size <= eps
        one = type(goal)(*(v[i].expand(int(inside.sum())) if isinstance(v, Tensor) else v for v in _fields(goal)))
        broken.append(bool(one.reached(EVERYWHERE[inside]).any()))
    return torch.tensor(broken)


def _fields(goal: Goal) -> list:
    return [v for name, v in vars(goal).items() if name != "reject"]


def attacked(method: Method, norm: str, eps: float, goal: Goal) -> Tensor:
    return Case(MODEL, X, goal, Threat(NORMS[norm], eps)).run(method).success


def test_the_plane_is_worth_attacking() -> None:
    assert Y.bincount(minlength=3).min() >= 3
    for norm in ("linf", "l2", "l1"):
        assert 6 < int(brute_force(norm, 0.15, GOALS["untargeted"]).sum()) < 24


STRONG = Cascade((PGD(10, objective=margin), Restarts(EachTarget(PGD(15, objective=margin), 2), 3)))


@pytest.mark.parametrize("eps", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_strong_attack_breaks_all_that_can_be_broken(norm: str, eps: float) -> None:
    success = attacked(STRONG, norm, eps, GOALS["untargeted"])
    # up to the pitch of the grid and the last per cent
    easy, possible = (brute_force(norm, size, GOALS["untargeted"]) for size in (0.95 * eps, eps + 2 * PITCH))
    assert bool((success >= easy).all()), f"{int((easy & ~success).sum())} of {int(easy.sum())} left standing"
    assert bool((success <= possible).all()), "broken where no point of the ball breaks"


@pytest.mark.parametrize("goal", ["targeted", "out-of-top"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_other_goals(norm: str, goal: str) -> None:
    success = attacked(Restarts(PGD(20, objective=margin), 10), norm, 0.25, GOALS[goal])
    easy, possible = (brute_force(norm, size, GOALS[goal]) for size in (0.9 * 0.25, 0.25 + 2 * PITCH))
    assert int(easy.sum()) >= 3
    assert bool((success >= easy).all()), f"{int((easy & ~success).sum())} of {int(easy.sum())} left standing"
    assert bool((success <= possible).all())


@pytest.mark.parametrize("objective", [margin, dlr, scaled_cross_entropy], ids=lambda o: o.__name__)
def test_other_objectives(objective) -> None:
    success = attacked(Restarts(PGD(20, objective=objective), 20), "linf", 0.15, GOALS["untargeted"])
    easy = brute_force("linf", 0.14, GOALS["untargeted"])
    assert bool((success >= easy).all()), f"{int((easy & ~success).sum())} of {int(easy.sum())} left standing"


@pytest.mark.parametrize(("name", "norm"), VECTOR_PAIRS, ids=lambda v: v)
def test_no_attack_breaks_what_cannot_be_broken(name: str, norm: str) -> None:
    eps = 1.0 if norm == "l0" else 0.15
    # one pixel may take any value: the grid's lines do not pass through the sample, so compare with both neighbours
    possible = _lines() if norm == "l0" else brute_force(norm, eps + 2 * PITCH, GOALS["untargeted"])
    assert bool((attacked(make(name), norm, eps, GOALS["untargeted"]) <= possible).all())


def _lines() -> Tensor:
    broken = []
    for i in range(N):
        a, b = X[i].flatten()
        cross = torch.cat([torch.stack([AXIS, b.expand_as(AXIS)], 1), torch.stack([a.expand_as(AXIS), AXIS], 1)])
        with torch.no_grad():
            broken.append(bool((MODEL(cross[:, None, None]).argmax(1) != Y[i]).any()))
    return torch.tensor(broken)


@pytest.mark.parametrize("order", list(Order), ids=lambda v: v.value)
def test_the_worst_case_curve_is_the_true_one(order: Order) -> None:
    """Robust accuracy at five budgets, against every point of the plane."""
    budgets = [0.03, 0.08, 0.12, 0.18, 0.3]
    case = Case(MODEL, X, GOALS["untargeted"], Threat(NORMS["linf"], 0.3))
    with frozen(MODEL):
        curve = sweep(STRONG, case.problem(), case.draws, budgets, Question.WORST_CASE, order=order)
    for eps, found in zip(budgets, curve.found, strict=True):
        assert bool((found.success <= brute_force("linf", eps + 2 * PITCH, GOALS["untargeted"])).all())
        assert bool((found.success >= brute_force("linf", 0.95 * eps - PITCH, GOALS["untargeted"])).all())
