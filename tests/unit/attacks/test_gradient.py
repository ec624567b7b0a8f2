"""The steps of the gradient attacks, each against its paper's formula written out."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from assay.attacks.gradient import BIM, FFGSM, FGSM, MIFGSM, PGD, RFGSM, gradient_of
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import Objective, cross_entropy, margin
from assay.core.oracle import TorchOracle, frozen
from assay.core.problem import Problem
from assay.core.search import Keeps, search
from assay.core.threat import L1, L2, Linf, Threat
from tests.support.bench import Curved, Remembering

MODEL = Curved()
X = torch.rand(4, 3, 4, 5, generator=torch.Generator().manual_seed(2)).mul(1.2).sub(0.1).clamp(0, 1)
Y = MODEL(X).argmax(1)
DRAWS = Draws(torch.arange(4), 3)


def named(method) -> str:
    return type(method).__name__ + ("-ahead" if getattr(method, "lookahead", False) else "")


def path(method, threat: Threat, keeps: Keeps = Keeps.LAST) -> list[Tensor]:
    """Return the points the attack asked about, one after the other."""
    oracle = Remembering(TorchOracle(MODEL))
    with frozen(MODEL):
        search(method, Problem(oracle, X, Untargeted(Y), threat), DRAWS, keeps=keeps)
    return [points for _, points, _ in oracle.looks]


def gradient(at: Tensor, objective: Objective = cross_entropy) -> Tensor:
    x = at.clone().requires_grad_()
    (grad,) = torch.autograd.grad(objective(MODEL(x), Untargeted(Y)).sum(), x)
    return grad


def clipped(z: Tensor, eps: float) -> Tensor:
    return torch.minimum(torch.maximum(z, X - eps), X + eps).clamp(0, 1)


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=2e-6)


def test_fgsm() -> None:
    first, last = path(FGSM(), Linf(0.1))
    assert torch.equal(first, X)
    assert close(last, (X + 0.1 * gradient(X).sign()).clamp(0, 1))
    _, last = path(FGSM(margin), Linf(0.1))
    assert close(last, (X + 0.1 * gradient(X, margin).sign()).clamp(0, 1))


def test_fgm_has_the_length_of_the_budget_without_a_box() -> None:
    for threat in (L2(0.7, box=False), L1(3, box=False)):
        _, last = path(FGSM(), threat)
        assert torch.allclose(threat.size(last, X), torch.full((4,), float(threat.eps)), rtol=1e-5)


def test_r_fgsm() -> None:
    first, last = path(RFGSM(0.4), Linf(0.1))
    noise = DRAWS.fold("init").normal("start", 3, 4, 5)
    assert close(first, (X + 0.04 * noise.sign()).clamp(0, 1))
    assert close(last, clipped(first + 0.06 * gradient(first).sign(), 0.1))


def test_the_ends_of_r_fgsm() -> None:
    """Without a random share it is FGSM, with nothing else it is noise."""
    assert close(path(RFGSM(0.0), Linf(0.1))[1], path(FGSM(), Linf(0.1))[1])
    first, last = path(RFGSM(1.0), Linf(0.1))
    assert close(first, last)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadInput, match="expected a share of the budget from 0 to 1"):
            RFGSM(share)


def test_ffgsm() -> None:
    first, last = path(FFGSM(), Linf(0.1))
    assert close(first, clipped(X + 0.1 * (2 * DRAWS.fold("init").uniform("start", 60).view_as(X) - 1), 0.1))
    assert close(last, clipped(first + 1.25 * 0.1 * gradient(first).sign(), 0.1))


@pytest.mark.parametrize(("step_size", "share"), [(None, 0.25), (0.4, 0.4), (2.0, 2.0)])
def test_bim(step_size: float | None, share: float) -> None:
    points = path(BIM(4, step_size), Linf(0.1))
    assert len(points) == 5
    assert torch.equal(points[0], X)
    for before, after in itertools.pairwise(points):
        assert close(after, clipped(before + share * 0.1 * gradient(before).sign(), 0.1))


@pytest.mark.parametrize(("step_size", "share"), [(None, 2.5 / 4), (0.1, 0.1)])
def test_pgd(step_size: float | None, share: float) -> None:
    points = path(PGD(4, step_size), Linf(0.1))
    assert not torch.equal(points[0], X)
    for before, after in itertools.pairwise(points):
        assert close(after, clipped(before + share * 0.1 * gradient(before).sign(), 0.1))
    assert torch.equal(path(PGD(4, random_start=False), Linf(0.1))[0], X)


def test_pgd_in_l2() -> None:
    points = path(PGD(4, 0.3, random_start=False), L2(0.5))
    for before, after in itertools.pairwise(points):
        grad = gradient(before).flatten(1)
        move = (before - X).flatten(1) + 0.15 * grad / grad.norm(dim=1, keepdim=True)
        move = move * (0.5 / move.norm(dim=1, keepdim=True)).clamp(max=1)
        assert close(after, (X + move.view_as(X)).clamp(0, 1))


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_mi_fgsm(decay: float) -> None:
    points = path(MIFGSM(4, decay=decay), Linf(0.1))
    momentum = torch.zeros_like(X)
    for before, after in itertools.pairwise(points):
        grad = gradient(before)
        momentum = decay * momentum + grad / grad.abs().mean((1, 2, 3), keepdim=True)
        assert close(after, clipped(before + 0.025 * momentum.sign(), 0.1))


def test_without_decay_it_is_bim() -> None:
    for one, other in zip(path(MIFGSM(4, decay=0), Linf(0.1)), path(BIM(4), Linf(0.1)), strict=True):
        assert close(one, other)


def test_ni_fgsm_looks_ahead_and_is_judged_where_it_stands() -> None:
    points = path(MIFGSM(4, lookahead=True), Linf(0.1))
    momentum, point = torch.zeros_like(X), X
    for t, asked in enumerate(points[:-1]):
        # as published, the look ahead may leave budget and box
        assert close(asked, point + 0.025 * momentum)
        grad = gradient(asked)
        momentum = momentum + grad / grad.abs().mean((1, 2, 3), keepdim=True)
        point = clipped(point + 0.025 * momentum.sign(), 0.1)
        assert t < 4
    assert close(points[-1], point)


@pytest.mark.parametrize("method", [BIM(3), PGD(3), MIFGSM(3), MIFGSM(3, lookahead=True)], ids=named)
def test_iterated_attacks_begin_where_they_are_told(method) -> None:
    start = (X + 0.05).clamp(0, 1)
    oracle = Remembering(TorchOracle(MODEL))
    problem = Problem(oracle, X, Untargeted(Y), Linf(0.1), start=start)
    search(method, problem, DRAWS, keeps=Keeps.LAST)
    assert torch.equal(oracle.looks[0][1], start)


@pytest.mark.parametrize(
    "method", [FGSM(), RFGSM(), FFGSM(), BIM(3), PGD(3), MIFGSM(3)], ids=lambda m: type(m).__name__
)
def test_an_endless_budget_has_no_steps(method) -> None:
    with pytest.raises(BadInput, match="the budget is infinite"):
        path(method, L2(float("inf")))
    with pytest.raises(BadInput, match="the budget is infinite"):
        path(method, dataclasses.replace(L2(1), eps=torch.tensor([0.1, float("inf"), 0.1, 0.1])))


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6])
@pytest.mark.parametrize("method", [FGSM(), BIM(3), PGD(3), MIFGSM(3), MIFGSM(3, lookahead=True)], ids=named)
@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(2)], ids=lambda threat: threat.norm.name)
def test_the_size_of_the_gradient_says_nothing(method, scale: float, threat: Threat) -> None:
    """An objective times a constant is the same objective: nearly vanished gradients climb as well as any."""

    def scaled(logits, goal):
        return margin(logits, goal) * scale

    plain, other = (
        path(dataclasses.replace(method, objective=objective), threat)[-1] for objective in (margin, scaled)
    )
    assert torch.allclose(plain, other, atol=1e-3)


def test_a_look_without_gradient_is_a_mistake() -> None:
    seen = TorchOracle(MODEL).look(X, Untargeted(Y), margin, FGSM().access.SCORES, DRAWS)
    with pytest.raises(AssertionError, match="access is GRADIENT"):
        gradient_of(seen)
