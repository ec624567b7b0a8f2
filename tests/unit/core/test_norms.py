"""The geometry of the norms on vectors: sizes, duals, directions, projections, against independent calculations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.norms import L0, L1, L2, LINF, NORMS, Norm, unit

GEOMETRIC = [LINF, L2, L1]
EVERY = list(NORMS.values())
QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
each = pytest.mark.parametrize("norm", EVERY, ids=lambda norm: norm.name)
geometric = pytest.mark.parametrize("norm", GEOMETRIC, ids=lambda norm: norm.name)

seeds = st.integers(0, 2**32 - 1)


def vectors(seed: int, n: int = 4, d: int = 7) -> Tensor:
    """Return rows of very different size, some with zeros, one all zero."""
    maker = torch.Generator().manual_seed(seed)
    g = torch.randn(n, d, generator=maker, dtype=torch.float64)
    g = g * 10.0 ** torch.randint(-4, 4, (n, 1), generator=maker)
    g[:, 0] = 0
    g[-1] = 0
    return g


def room_of(seed: int, like: Tensor) -> Tensor:
    maker = torch.Generator().manual_seed(seed + 1)
    room = torch.rand(like.shape, generator=maker, dtype=like.dtype)
    return torch.where(torch.rand(like.shape, generator=maker) < 0.3, 0, room)


def test_sizes() -> None:
    d = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]])
    assert [norm.size(d).tolist() for norm in (LINF, L2, L1, L0)] == [[4, 0], [5, 0], [7, 0], [2, 0]]


@geometric
@QUICK
@given(seeds)
def test_steepest_has_unit_size_and_the_largest_inner_product(norm: Norm, seed: int) -> None:
    g = vectors(seed)
    best = norm.steepest(g)
    assert torch.allclose(norm.size(best)[:-1], torch.ones(3, dtype=g.dtype))
    assert float(norm.size(best)[-1]) == 0
    assert torch.allclose((best * g).sum(1), norm.dual(g))
    maker = torch.Generator().manual_seed(seed)
    for _ in range(20):
        other = torch.randn(g.shape, generator=maker, dtype=g.dtype) ** 3
        other = other / norm.size(other)[:, None]
        assert bool(((other * g).sum(1) <= norm.dual(g) * (1 + 1e-12)).all())


@geometric
@QUICK
@given(seeds, st.sampled_from([0.0, 0.3, 2.0]))
def test_a_stride_has_its_length_and_climbs(norm: Norm, seed: int, length: float) -> None:
    g = vectors(seed, d=250)
    endless = torch.full_like(g, torch.inf)
    for one in (length, torch.full((len(g), 1), length, dtype=g.dtype)):
        stride = norm.step(g, endless, one)
        assert torch.allclose(norm.size(stride), torch.tensor([length] * 3 + [0.0], dtype=g.dtype))
        assert bool((stride * g >= 0).all())
        if norm is L1 and length > 0:
            assert (stride.abs() > 1e-9).sum(1).tolist() == [2, 2, 2, 0], "1 % of 250 values, rounded"
        elif norm is not L1:
            assert torch.allclose(stride, length * norm.steepest(g))


@QUICK
@given(seeds, st.sampled_from([0.3, 2.0, 500.0]))
def test_an_l1_stride_goes_where_there_is_room(seed: int, length: float) -> None:
    """No more than its share on any value, nothing on what is blocked, the steepest values first, all of the length."""
    g = vectors(seed, d=250)
    room = room_of(seed, g)
    stride = L1.step(g, room, length).abs()
    cap = torch.where(g == 0, 0.0, room.clamp(max=length / 2))
    assert bool((stride <= cap * (1 + 1e-9)).all())
    assert torch.allclose(stride.sum(1), cap.sum(1).clamp(max=length))
    for row in range(3):
        order = g[row].abs().argsort(descending=True)
        used = (stride[row, order] >= cap[row, order] * (1 - 1e-9)).long()
        # full, full, …, one partly, then nothing
        partly = int(used.cumprod(0).sum())
        assert not bool(stride[row, order][partly + 1 :].any())


@pytest.mark.parametrize("tiny", [1e-20, 1e-30, 1e-38, 1e-43])
def test_directions_of_nearly_vanished_gradients(tiny: float) -> None:
    """A gradient underflowing in float32 still says where to go."""
    g = (torch.tensor([[3.0, -4.0, 0.0]]) * tiny).float()
    assert float(g.abs().max()) > 0
    for norm in GEOMETRIC:
        assert float(norm.size(norm.steepest(g))) == pytest.approx(1, abs=1e-3)
    assert torch.allclose(unit(g), torch.tensor([[0.6, -0.8, 0.0]]), atol=0.02)
    assert torch.allclose(unit(g * 0), torch.zeros(1, 3))


def test_directions_of_huge_gradients() -> None:
    g = torch.tensor([[3e30, -4e30, 0.0]])
    assert torch.allclose(unit(g), torch.tensor([[0.6, -0.8, 0.0]]))


@each
@QUICK
@given(seeds, st.floats(0, 5), st.booleans())
def test_shrink_lands_in_the_ball_and_stays_there(norm: Norm, seed: int, eps: float, single: bool) -> None:
    d = vectors(seed)
    d = d.float() if single else d
    room = room_of(seed, d)
    for budget in (eps, torch.full((len(d), 1), eps, dtype=d.dtype)):
        inside = norm.project(d, budget, room)
        assert bool((norm.size(inside) <= eps * (1 + 1e-6) + 1e-9).all())
        # of smaller height everywhere, never turned round
        assert bool((inside.abs() <= d.abs()).all())
        assert bool((inside * d >= 0).all())
        again = norm.project(inside, budget, room)
        assert torch.allclose(again, inside, rtol=1e-5, atol=1e-9)


@each
@QUICK
@given(seeds)
def test_shrink_is_the_identity_inside(norm: Norm, seed: int) -> None:
    d = vectors(seed)
    endless = torch.full_like(d, torch.inf)
    assert torch.equal(norm.project(d, torch.inf, endless), d)
    size = norm.size(d)[:, None]
    assert torch.equal(norm.project(d, size * 1.001, endless), d)


@geometric
@QUICK
@given(seeds, st.floats(0.01, 3))
def test_shrink_is_the_nearest_point(norm: Norm, seed: int, eps: float) -> None:
    """In Linf and L2 the nearest of the ball; in L1 the nearest of ball and room."""
    d = vectors(seed)
    room = room_of(seed, d) if norm is L1 else torch.full_like(d, torch.inf)
    inside = norm.project(d, eps, room)
    maker = torch.Generator().manual_seed(seed)
    for _ in range(20):
        other = torch.randn(d.shape, generator=maker, dtype=d.dtype)
        # another point of the set, near the claimed one
        other = inside + 0.1 * other * inside.abs().amax(1, keepdim=True).clamp_min(0.1)
        other = other.sign() * torch.minimum(other.abs(), torch.where(other * d >= 0, room, torch.zeros_like(room)))
        other = other * (eps / norm.size(other).clamp_min(1e-30)).clamp(max=1)[:, None]
        assert bool(((other - d).norm(dim=1) >= (inside - d).norm(dim=1) - 1e-6 * d.norm(dim=1)).all())


def exact_l1(d: np.ndarray, eps: float, room: np.ndarray) -> np.ndarray:
    """Return the nearest point to `d` in the L1 ball and the room, by sorting the kinks of the dual function."""
    a = np.abs(d)
    cost = lambda t: np.minimum(np.maximum(a - t, 0), room).sum()  # noqa: E731
    if cost(0.0) <= eps:
        return np.sign(d) * np.minimum(a, room)
    kinks = np.unique(np.concatenate([[0.0], a, np.maximum(a - room, 0)]))
    values = np.array([cost(t) for t in kinks])  # falls, linear in between
    k = int(np.searchsorted(-values, -eps))  # the first kink at or under eps
    low, high = kinks[k - 1], kinks[k]
    t = low + (values[k - 1] - eps) * (high - low) / (values[k - 1] - values[k])
    return np.sign(d) * np.minimum(np.maximum(a - t, 0), room)


@QUICK
@given(seeds, st.floats(0.001, 4))
def test_the_l1_projection_is_the_exact_one(seed: int, eps: float) -> None:
    d = vectors(seed, d=12)
    room = room_of(seed, d)
    ours = L1.project(d, eps, room).numpy()
    for row, one in enumerate(ours):
        expected = exact_l1(d[row].numpy(), eps, room[row].numpy())
        scale = max(1.0, float(d[row].abs().max()))
        assert np.abs(one - expected).max() < 1e-7 * scale


def test_the_l1_projection_of_a_large_image_uses_its_budget() -> None:
    maker = torch.Generator().manual_seed(0)
    d = 0.1 * torch.randn(2, 3 * 64 * 64, generator=maker)
    size = L1.size(L1.project(d, 12.0, torch.ones_like(d)))
    assert bool((size <= 12 * (1 + 1e-5)).all())
    assert bool((size >= 12 * (1 - 1e-3)).all())


@pytest.mark.parametrize(("eps", "kept"), [(0, 0), (1, 1), (1.5, 1), (2, 2), (2.999, 2), (99, 4)])
def test_l0_keeps_the_largest_and_no_more_than_the_budget(eps: float, kept: int) -> None:
    d = torch.tensor([[1.0, -3.0, 2.0, 0.5]])
    inside = L0.project(d, eps, torch.full_like(d, 9.0))
    assert int((inside != 0).sum()) == kept
    order = d.abs().argsort(1, descending=True)[:, :kept]
    assert torch.equal(inside.gather(1, order), d.gather(1, order))


def test_l0_does_not_spend_on_what_the_box_blocks() -> None:
    d, room = torch.tensor([[5.0, 1.0, 0.9]]), torch.tensor([[0.0, 1.0, 1.0]])
    assert L0.project(d, 1, room).tolist() == [[0.0, 1.0, 0.0]]


def test_l0_has_no_gradient_direction() -> None:
    g = torch.ones(1, 3)
    for ask in (L0.dual, L0.steepest, lambda v: L0.step(v, v, 1.0)):
        with pytest.raises(BadInput, match="L0 has no"):
            ask(g)


@each
@QUICK
@given(seeds, st.floats(0.05, 0.95))
def test_travel_meets_the_need_within_the_room(norm: Norm, seed: int, share: float) -> None:
    weight = vectors(seed).abs()[:-1]
    room = room_of(seed, weight)
    need = share * (weight * room).sum(1)
    move = norm.cheapest_move(need, weight, room)
    assert bool((move >= 0).all())
    assert bool((move <= room + 1e-12).all())
    assert torch.allclose((weight * move).sum(1), need, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("norm", [L2, L1, LINF], ids=lambda norm: norm.name)
@pytest.mark.parametrize("seed", range(6))
def test_travel_is_the_shortest_way(norm: Norm, seed: int) -> None:
    """Against scipy's SLSQP (for Linf and L1 with the norm written as a linear program's slack)."""
    maker = torch.Generator().manual_seed(seed)
    weight = torch.rand(1, 5, generator=maker, dtype=torch.float64)
    room = torch.rand(1, 5, generator=maker, dtype=torch.float64)
    need = 0.6 * (weight * room).sum(1)
    ours = float(norm.size(norm.cheapest_move(need, weight, room)))
    w, r = weight[0].numpy(), room[0].numpy()
    meets = {"type": "eq", "fun": lambda m: w @ m[:5] - float(need)}
    if norm is LINF:
        bounds = [(0, float(x)) for x in r] + [(0, 1)]
        under = {"type": "ineq", "fun": lambda m: m[5] - m[:5]}
        best = minimize(lambda m: m[5], np.full(6, 0.5), bounds=bounds, constraints=[meets, under], method="SLSQP").fun
    else:
        size = (lambda m: m.sum()) if norm is L1 else (lambda m: m @ m)
        bounds = [(0, float(x)) for x in r]
        best = minimize(size, r / 2, bounds=bounds, constraints=[meets], method="SLSQP").fun
        best = best if norm is L1 else best**0.5
    assert ours == pytest.approx(best, rel=1e-4)


@each
def test_random_points_fill_the_ball(norm: Norm) -> None:
    draws = Draws(torch.arange(2000))
    points = norm.random(draws, 3)
    size = norm.size(points)
    assert bool((size <= (3 if norm is L0 else 1 + 1e-6)).all())
    assert abs(float(points.mean())) < 0.03
    assert float((points > 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    if norm is not L0:
        # uniform in volume: the share of points inside radius r is r to the power of the dimension
        for radius in (0.3, 0.6, 0.9):
            assert float((size < radius).float().mean()) == pytest.approx(radius**3, abs=0.035)


def test_unit_vectors_of_the_l2_start_go_every_way() -> None:
    points = unit(L2.random(Draws(torch.arange(4000)), 2))
    angle = torch.atan2(points[:, 1], points[:, 0])
    counts = torch.histc(angle, 8, -torch.pi, torch.pi)
    assert float(counts.min()) > 400
