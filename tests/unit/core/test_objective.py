"""What attacks climb: never a batch mean, shift- and scale-free where promised, and towards the goal."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.core.errors import BadInput
from assay.core.goal import OutOfTop, Targeted, Toward, Untargeted, pick
from assay.core.objective import (
    OBJECTIVES,
    Objective,
    Tempered,
    cross_entropy,
    differences,
    dlr,
    dlr_targeted,
    margin,
    mean_square_error,
    scaled_cross_entropy,
    sharp_cross_entropy,
)
from assay.core.tensors import take

K = 6
QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
numbers = st.integers(0, 2**32 - 1)

# towards no class in particular
OPEN = ("cross_entropy", "scaled_cross_entropy", "sharp_cross_entropy", "mean_square_error")


def sample(seed: int, n: int = 5, k: int = K) -> tuple[Tensor, Tensor]:
    maker = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, k, generator=maker, dtype=torch.float64), torch.randint(k, (n,), generator=maker)


def goals(y: Tensor, k: int = K) -> list:
    return [Untargeted(y), Targeted(y, (y + 1) % k), Toward(y, (y + 1) % k), OutOfTop(y, 2)]


def fits(name: str, goal) -> bool:
    return not (name == "dlr_targeted" and isinstance(goal, OutOfTop))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_sample_counts_alone(name: str) -> None:
    logits, y = sample(0)
    for goal in (goal for goal in goals(y) if fits(name, goal)):
        whole = OBJECTIVES[name](logits, goal)
        assert whole.shape == (5,)
        for i in range(5):
            row = torch.tensor([i])
            assert torch.allclose(OBJECTIVES[name](logits[row], take(goal, row)), whole[row])


@pytest.mark.parametrize("name", OBJECTIVES)
@QUICK
@given(numbers)
def test_a_step_up_serves_the_goal(name: str, seed: int) -> None:
    """Climbing helps the attacker, for every goal: up is up. (Samples the model still gets right.)"""
    logits, _ = sample(seed)
    # the ratios are made for targets near the top
    y, near = logits.topk(2, 1).indices.unbind(1)
    every = (Untargeted(y), Targeted(y, near), Toward(y, near), OutOfTop(y, 2), OutOfTop(y, 3))
    for goal in (goal for goal in every if fits(name, goal)):
        start = logits.clone().requires_grad_()
        (grad,) = torch.autograd.grad(OBJECTIVES[name](start, goal).sum(), start)
        stepped = logits + 1e-4 * grad / grad.abs().amax(1, keepdim=True).clamp_min(1e-300)
        if isinstance(goal, OutOfTop) and name in OPEN:
            # they lower the label; which classes rise they leave open
            before, after = (pick(z, y) - z.mean(1) for z in (logits, stepped))
            assert bool((after <= before + 1e-12).all())
        elif isinstance(goal, Targeted | Toward) and name == "mean_square_error":
            before, after = (pick(z.softmax(1), goal.t) for z in (logits, stepped))
            assert bool((after >= before - 1e-15).all())
        else:
            assert bool((goal.lead(stepped) > goal.lead(logits)).all()), goal


@QUICK
@given(numbers, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_ratios_do_not_see_shift_and_scale(seed: int, scale: float, shift: float) -> None:
    logits, y = sample(seed)
    for objective in (dlr, dlr_targeted):
        for goal in goals(y)[: 3 if objective is dlr_targeted else 4]:
            assert torch.allclose(objective(logits * scale + shift, goal), objective(logits, goal), atol=1e-6)


def test_ratios_are_the_published_ones() -> None:
    logits = torch.tensor([[4.0, 1.0, 3.0, 0.0]])
    y = torch.tensor([0])
    # -(z_y - best other) / (z_1 - z_3)
    assert dlr(logits, Untargeted(y)).tolist() == pytest.approx([-(4 - 3) / (4 - 1)])
    # -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2)
    assert dlr_targeted(logits, Toward(y, torch.tensor([1]))).tolist() == pytest.approx([-(4 - 1) / (4 - 0.5)])


@pytest.mark.parametrize("k", [2, 3])
def test_ratios_need_their_classes(k: int) -> None:
    logits, y = torch.randn(2, k), torch.tensor([0, 1])
    goal = Toward(y, (y + 1) % k)
    assert torch.equal(dlr_targeted(logits, goal), margin(logits, goal)), "the ratio could be constant"
    assert torch.equal(dlr(logits, Untargeted(y)), margin(logits, Untargeted(y))) == (k == 2)


def test_the_ratio_is_about_the_classes_of_the_goal() -> None:
    """Out of the top 2, the third class is in the lead: with it in the divisor too, the ratio would be constant."""
    logits, y = sample(7)
    goal = OutOfTop(logits.argmax(1), 2)
    start = logits.clone().requires_grad_()
    (grad,) = torch.autograd.grad(dlr(start, goal).sum(), start)
    assert bool(grad.abs().amax(1).gt(1e-3).all())
    few = OutOfTop(y % 3, 2)
    assert torch.equal(dlr(logits[:, :3], few), margin(logits[:, :3], few))
    with pytest.raises(BadInput, match="needs a target"):
        dlr_targeted(logits, goal)


def test_equal_logits_divide_by_nothing() -> None:
    logits, y = torch.zeros(2, 5), torch.tensor([0, 3])
    for name in OBJECTIVES:
        start = logits.clone().requires_grad_()
        value = OBJECTIVES[name](start, Untargeted(y))
        (grad,) = torch.autograd.grad(value.sum(), start)
        assert bool(value.isfinite().all()), name
        assert bool(grad.isfinite().all()), name


@pytest.mark.parametrize("objective", [scaled_cross_entropy, sharp_cross_entropy])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e2, 1e4])
def test_a_scaled_cross_entropy_cannot_saturate(scale: float, objective: Objective) -> None:
    """Its gradient is that of logits with a fixed top-two gap, in float32, whatever the temperature."""
    logits, y = sample(3, n=20)
    y = logits.argmax(1)
    start = (logits * scale).float().requires_grad_()
    (grad,) = torch.autograd.grad(objective(start, Untargeted(y)).sum(), start)
    plain = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(objective(plain, Untargeted(y)).sum(), plain)
    direction, wanted = (g.double() / g.double().norm(dim=1, keepdim=True) for g in (grad, expected))
    assert float((direction - wanted).abs().max()) < 1e-3
    assert bool((objective(start, Untargeted(y)) > 0.01).all())


def test_the_sharp_cross_entropy_is_that_of_a_gap_of_4() -> None:
    y = torch.tensor([0, 0])
    logits = torch.tensor([[4.0, 0.0, -4.0], [50.0, 10.0, -30.0]])
    expected = cross_entropy(logits[:1], Untargeted(y[:1])).expand(2)
    assert torch.allclose(sharp_cross_entropy(logits, Untargeted(y)), expected)


def test_the_plain_cross_entropy_does_saturate() -> None:
    """What the scaled one is for; were this to change, its docstring and the audit would have to."""
    start = torch.tensor([[120.0, 0.0, 0.0]], requires_grad=True)
    (grad,) = torch.autograd.grad(cross_entropy(start, Untargeted(torch.tensor([0]))).sum(), start)
    assert not bool(grad.any())


def test_mean_square_error_is_a_distance_of_probabilities() -> None:
    logits, y = sample(4)
    p = logits.softmax(1)
    for i, goal in enumerate(goals(y)):
        one_hot = torch.eye(K, dtype=torch.float64)[(y + 1) % K if i in (1, 2) else y]
        expected = (p - one_hot).square().mean(1)
        assert torch.allclose(mean_square_error(logits, goal), -expected if i in (1, 2) else expected)


def test_margin_is_the_lead() -> None:
    logits, y = sample(5)
    for goal in goals(y):
        assert torch.equal(margin(logits, goal), goal.lead(logits))


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_differences_are_the_highest_others_less_the_label(k: int) -> None:
    logits, y = sample(6)
    value = differences(k)(logits, Untargeted(y))
    assert value.shape == (5, min(k, K - 1))
    for i in range(5):
        others = sorted((float(z) for j, z in enumerate(logits[i]) if j != int(y[i])), reverse=True)
        expected = [z - float(logits[i, y[i]]) for z in others[:k]]
        assert value[i].tolist() == pytest.approx(expected)


def test_a_temperature_divides_the_logits() -> None:
    logits, y = sample(4)
    for goal in goals(y):
        assert torch.allclose(Tempered(100)(logits, goal), cross_entropy(logits / 100, goal))


def test_a_temperature_brings_back_what_saturation_hides() -> None:
    """In float32 a gap of 200 leaves no gradient at temperature 1, and a plain one at 100."""
    logits = torch.tensor([[200.0, 0.0, -5.0]], requires_grad=True)
    goal = Untargeted(torch.tensor([0]))
    (hidden,) = torch.autograd.grad(cross_entropy(logits, goal).sum(), logits)
    (seen,) = torch.autograd.grad(Tempered(100)(logits, goal).sum(), logits)
    assert torch.equal(hidden, torch.zeros_like(hidden))
    expected = torch.tensor([[2.0, 0.0, -0.05]]).softmax(1) / 100 - torch.tensor([[0.01, 0.0, 0.0]])
    torch.testing.assert_close(seen, expected)


def test_differences_leave_refusal_out_and_beat_it() -> None:
    """To be refused is no success: the nearest difference is the goal's own gap."""
    logits, y = sample(3)
    logits[:2, K - 1] = 9.0
    y = y.clamp_max(K - 2)
    goal = Untargeted(y, reject=-1)
    value = differences(K)(logits, goal)
    assert value.shape == (5, K - 2)
    assert torch.equal(value.amax(1), goal.gap(logits))
    assert bool((value[:2] < 0).all())


def test_a_refusal_is_no_scale_of_the_classes() -> None:
    # label 0 leads by 2, three classes span 3; the refusal is all but the highest, and must change neither
    logits = torch.tensor([[3.0, 1.0, 0.0, 3.0 - 1e-6]], requires_grad=True)
    goal = Untargeted(torch.tensor([0]), reject=-1)
    assert dlr(logits, goal).item() == pytest.approx(-2 / 3)
    (grad,) = torch.autograd.grad(scaled_cross_entropy(logits, goal).sum(), logits)
    assert grad.abs().max() > 0.01
    # where another index refuses, the rest is the same
    turned = logits.detach().roll(1, 1)
    assert dlr(turned, Untargeted(torch.tensor([1]), reject=0)).item() == pytest.approx(-2 / 3)
