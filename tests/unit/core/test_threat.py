"""Threats on images: projections, directions, planes, starts, units and the grid."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from assay.core.budget import parse_budget
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.threat import L0, L1, L2, LINF, NORMS, UNBOXED, Linf, Threat

QUICK = settings(max_examples=80, deadline=None, derandomize=True, database=None)
SHAPE = (2, 2, 3)

norms = st.sampled_from(list(NORMS.values()))
geometric = st.sampled_from([NORMS[name] for name in ("linf", "l2", "l1")])


@st.composite
def situations(draw, norms=norms):
    """Return a threat, images inside its box, and points anywhere: all in one precision."""
    maker = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    norm = draw(norms)
    box = draw(st.sampled_from([(0.0, 1.0), UNBOXED]))
    x = torch.rand(4, *SHAPE, generator=maker, dtype=dtype).mul(1.4).sub(0.2).clamp(0, 1)
    far = draw(st.sampled_from([1e-4, 0.1, 1.0, 30.0]))
    z = x + far * torch.randn(x.shape, generator=maker, dtype=dtype)
    eps: float | Tensor = draw(st.sampled_from([0.0, 1e-3, 0.03137, 8 / 255, 0.3, 1.0, 4.0, math.inf]))
    if draw(st.booleans()) and math.isfinite(eps):
        eps = eps * torch.rand(4, generator=maker)
    scale: float | Tensor = 1.0
    if draw(st.booleans()):
        scale = 0.05 + torch.rand(2, 1, 1, generator=maker)
    return Threat(norm, eps, box, scale), x, z


@QUICK
@given(situations())
def test_a_projection_lands_in_ball_and_box_and_stays(situation) -> None:
    threat, x, z = situation
    near = threat.project(z, x)
    assert bool(threat.allows(threat.size(near, x)).all())
    assert bool(threat.in_box(near).all())
    assert near.dtype == x.dtype
    again = threat.project(near, x)
    assert torch.allclose(again, near, rtol=1e-5, atol=1e-6)


@QUICK
@given(situations())
def test_a_point_inside_stays(situation) -> None:
    threat, x, z = situation
    z = threat.clip(z)
    inside = threat.at(threat.size(z, x) * 1.01 + (1 if threat.norm.name == "l0" else 1e-6))
    assert torch.allclose(inside.project(z, x), z, rtol=1e-6, atol=1e-6)
    assert bool(inside.allows(inside.size(z, x)).all())


@QUICK
@given(situations())
def test_no_budget_is_the_image_exactly(situation) -> None:
    threat, x, z = situation
    for none in (0.0, torch.zeros(4)):
        assert torch.equal(threat.at(none).project(z, x), x)
        assert torch.equal(threat.at(none).start(x, Draws(torch.arange(4))), x)


@QUICK
@given(situations())
def test_the_inputs_stay_as_they_are(situation) -> None:
    threat, x, z = situation
    copies = x.clone(), z.clone()
    threat.project(z, x)
    threat.size(z, x)
    threat.start(x, Draws(torch.arange(4)))
    if threat.norm.name != "l0":
        threat.steepest(z)
        threat.stride(z, x, 0.5)
        threat.to_plane(x, z, torch.ones(4, dtype=x.dtype))
    assert torch.equal(x, copies[0])
    assert torch.equal(z, copies[1])


@QUICK
@given(situations(geometric))
def test_steepest_gains_the_dual_and_nothing_gains_more(situation) -> None:
    threat, x, grad = situation
    grad = grad.double()
    step = threat.steepest(grad)
    assert torch.allclose(threat.size(x + step, x), torch.ones(4, dtype=torch.float64), atol=1e-5)
    gain = (step * grad).flatten(1).sum(1)
    assert torch.allclose(gain, threat.dual(grad), rtol=1e-6)
    for seed in range(5):
        other = torch.randn(grad.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        other = other / threat.size(x.double() + other, x.double())[:, None, None, None]
        assert bool(((other * grad).flatten(1).sum(1) <= gain * (1 + 1e-9)).all())


@QUICK
@given(situations(), st.integers(0, 1000))
def test_a_start_lies_inside_and_is_the_sample_s_own(situation, seed: int) -> None:
    threat, x, _ = situation
    draws = Draws(torch.arange(4), seed)
    start = threat.start(x, draws)
    assert bool(threat.in_box(start).all())
    if not isinstance(threat.eps, Tensor) and math.isinf(threat.eps):
        assert bool(threat.at(x[0].numel()).allows(threat.size(start, x)).all())
    else:
        assert bool(threat.allows(threat.size(start, x)).all())
    keep = torch.tensor([2, 0])
    eps = threat.eps[keep] if isinstance(threat.eps, Tensor) else threat.eps
    assert torch.equal(threat.at(eps).start(x[keep], draws.take(keep)), start[keep])


@pytest.mark.parametrize("norm", NORMS)
def test_starts_spread_over_the_ball(norm: str) -> None:
    eps = {"linf": 0.1, "l2": 0.5, "l1": 1.0, "l0": 3.0}[norm]
    threat = Threat(NORMS[norm], eps)
    x = torch.full((500, *SHAPE), 0.5)
    start = threat.start(x, Draws(torch.arange(500)))
    move = start - x
    assert len(move.flatten(1).unique(dim=0)) > 400  # L0 has 1,760 points here, the others no end of them
    assert float(move.mean().abs()) < 0.05 * eps
    # every pixel moves either way, and as far in some samples as the ball allows
    assert bool((move.amax(0) > 0.3 * min(eps, 0.5)).all())
    assert bool((move.amin(0) < -0.3 * min(eps, 0.5)).all())
    size = threat.size(start, x)
    assert float(size.max()) > 0.95 * eps
    assert float(size.mean()) > 0.85 * eps
    if norm == "linf":
        u = (move / eps).flatten()
        assert abs(float(u.var()) - 1 / 3) < 0.02


@pytest.mark.parametrize("grey", [0.0, 0.5])
def test_l0_starts_anywhere_in_the_image(grey: float) -> None:
    """Where the box cuts all values alike, the choice is not by their order."""
    x = torch.full((400, 1, 8, 8), grey)
    changed = (Threat(NORMS["l0"], 4.0).start(x, Draws(torch.arange(400))) != x).float().mean(0).flatten()
    assert float(changed.min()) > 0.02
    assert float(changed.max()) < 0.12


def test_starts_where_some_budgets_have_no_end() -> None:
    eps = torch.tensor([math.inf, 0.01, math.inf, 0.02])
    for norm in NORMS.values():
        threat, x = Threat(norm, eps), torch.rand(4, *SHAPE)
        start = threat.start(x, Draws(torch.arange(4)))
        assert bool(threat.allows(threat.size(start, x)).all())
        assert bool(start.isfinite().all())


@QUICK
@given(situations(geometric), st.floats(0.05, 0.95))
def test_a_plane_is_met_inside_the_box(situation, share: float) -> None:
    threat, x, normal = situation
    x, normal = x.double(), normal.double().clone()
    normal[:, 0, 0, 0] = 0
    threat = dataclasses.replace(threat, eps=math.inf)
    boxed = dataclasses.replace(threat, box=(0.0, 1.0))
    corner = torch.where(normal > 0, 1.0, 0.0).double()
    here, most = ((normal * p).flatten(1).sum(1) for p in (x, corner))
    offset = here + share * (most - here)
    for one in (threat, boxed):
        point = one.to_plane(x, normal, offset)
        assert torch.allclose((normal * point).flatten(1).sum(1), offset, rtol=1e-6, atol=1e-8)
        assert bool(one.in_box(point).all())
    # beyond the box: the corner nearest to the plane
    beyond = boxed.to_plane(x, normal, most + 1)
    moved = normal != 0
    assert torch.allclose(beyond[moved], corner[moved])


@pytest.mark.parametrize("box", [(0.0, 1.0), UNBOXED], ids=["box", "no box"])
@pytest.mark.parametrize("scaled", [False, True], ids=["pixels", "units"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("seed", range(3))
def test_the_way_to_a_plane_is_the_shortest(norm: str, scaled: bool, box: tuple[float, float], seed: int) -> None:
    """Against scipy's SLSQP, on the point's own coordinates (with slack variables for Linf and L1)."""
    maker = np.random.default_rng(seed)
    x, w = maker.random(6), maker.normal(size=6)
    corner = np.where(w > 0, 1.0, 0.0)
    offset = w @ x + 0.5 * (w @ corner - w @ x)
    s = np.repeat([0.3, 0.7], 3) if scaled else np.ones(6)
    scale = torch.tensor([0.3, 0.7], dtype=torch.float64).view(2, 1, 1) if scaled else 1.0
    threat = Threat(NORMS[norm], math.inf, box, scale)
    image, normal = (torch.tensor(v).view(1, 2, 1, 3) for v in (x, w))
    ours = float(threat.size(threat.to_plane(image, normal, torch.tensor([offset])), image))

    limits = [(0, 1)] * 6 if box != UNBOXED else [(None, None)] * 6
    plane = {"type": "eq", "fun": lambda v: w @ v[:6] - offset}
    options = {"maxiter": 500, "ftol": 1e-12}
    if norm == "l2":
        size = lambda v: (((v - x) / s) ** 2).sum()  # noqa: E731
        best = minimize(size, x, bounds=limits, constraints=[plane], method="SLSQP", options=options).fun ** 0.5
    else:
        slacks = 1 if norm == "linf" else 6
        over = {"type": "ineq", "fun": lambda v: v[6:] - (v[:6] - x) / s}
        under = {"type": "ineq", "fun": lambda v: v[6:] + (v[:6] - x) / s}
        begin = np.concatenate([x, np.ones(slacks)])
        best = minimize(
            lambda v: v[6:].sum(),
            begin,
            bounds=limits + [(0, None)] * slacks,
            constraints=[plane, over, under],
            method="SLSQP",
            options=options,
        ).fun
    assert ours == pytest.approx(best, rel=1e-4)


# ---- the grid


@st.composite
def on_grid(draw):
    maker = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    grid = draw(st.sampled_from([255, 15, 1]))
    x = torch.randint(0, grid + 1, (4, *SHAPE), generator=maker).float() / grid
    norm = NORMS[draw(st.sampled_from(["linf", "l2", "l1", "l0"]))]
    eps = draw(
        st.sampled_from([0.0, 1 / 255, 0.00392, 0.00784, 0.0196, 0.019604, 0.03137, 8 / 255, 0.1, 0.5, 1.0, 3.0])
        | st.floats(0, 1)
    )
    scale = 0.05 + torch.rand(2, 1, 1, generator=maker) if draw(st.booleans()) else 1.0
    threat = Threat(norm, eps, scale=scale, grid=grid)
    # at the rim of the ball, where rounding hurts
    z = threat.project(x + 4 * torch.randn(x.shape, generator=maker).sign() * draw(st.floats(0, 1)), x)
    return threat, x, z


@settings(QUICK, max_examples=300)
@given(on_grid())
def test_a_snapped_point_is_on_the_grid_and_inside_the_budget(situation) -> None:
    threat, x, z = situation
    grid = threat.grid
    snapped = threat.snap(z, x)
    assert torch.equal((snapped * grid).round() / grid, snapped)
    assert bool(threat.allows(threat.size(snapped, x)).all())
    assert bool(threat.in_box(snapped).all())
    # it moves by less than a level, and one that is on the grid stays
    assert float((snapped - z).abs().max()) * grid < 1 + 1e-3
    assert torch.equal(threat.snap(snapped, x), snapped)


@pytest.mark.parametrize("eps", ["8/255", 0.03137, 0.00784, 0.0196, 0.019604, "1/255"])
def test_the_grid_uses_every_whole_level_of_the_budget(eps: str | float) -> None:
    """A budget written a little under a level, such as 0.03137 for 8/255, still reaches the level below."""
    threat = Linf(eps, grid=255)
    x = torch.full((1, 1, 2, 2), 100 / 255)
    levels = math.floor(255 * float(threat.eps) + 1e-4)
    move = torch.tensor([[1.0, -1.0], [0.4, 1.0]]) * float(threat.eps)
    snapped = threat.snap(x + move, x)
    got = ((snapped - x) * 255).round().flatten().tolist()
    assert [abs(g) for g in got[:2]] == [levels, levels]
    assert bool(threat.allows(threat.size(snapped, x)).all())


def test_without_a_grid_a_point_is_its_own() -> None:
    x, z = torch.rand(2, *SHAPE), torch.rand(2, *SHAPE)
    assert Threat(LINF, 0.1).snap(z, x) is z
    assert Threat(LINF, 0.1).on_grid(x) is x
    on = Threat(LINF, 0.1, grid=255).on_grid(x)
    assert torch.equal((on * 255).round() / 255, on)


# ---- budgets and units


@pytest.mark.parametrize("eps", ["8/255", "0.5/255", "0.1/255", "0.01/255"])
@pytest.mark.parametrize("box", [True, False])
def test_a_budget_per_channel_allows_its_own_rim(eps: str, box: bool) -> None:
    """x + eps rounds in pixels: in units of a small budget that is a large number, and still only rounding."""
    threat = Linf([eps] * 2, box=box)
    x = torch.rand(50, 2, 8, 8)
    for sign in (1, -1):
        z = threat.project(x + sign, x)
        assert bool(threat.allows(threat.size(z, x)).all())
    value = parse_budget(eps).value
    beyond = x + (value + 4e-6)
    assert not bool(threat.allows(threat.size(beyond, x)).any())


@pytest.mark.parametrize("make", [Linf, L2, L1, L0])
def test_a_size_beyond_the_budget_is_not_allowed(make) -> None:
    threat = make(1) if make is L0 else make(0.1)
    eps = float(threat.eps)
    assert threat.allows(torch.tensor([0.0, eps, eps * 1.001, eps + 1, math.nan, math.inf])).tolist() == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_normalised_budgets() -> None:
    threat = Linf("normalized 0.02")
    assert not threat.resolved
    with pytest.raises(BadInput, match="normalisation is unknown"):
        threat.in_units_of(None)
    known = threat.in_units_of((0.2, 0.5))
    assert known.resolved
    x = torch.full((1, 2, 1, 1), 0.5)
    assert torch.allclose(known.project(x + 1, x) - x, torch.tensor([0.004, 0.01]).view(1, 2, 1, 1))
    # pixels are pixels, whatever the model
    plain = Linf("8/255")
    assert plain.in_units_of((0.2, 0.5)) is plain
    assert plain.in_units_of(None) is plain


def test_what_was_written_is_kept() -> None:
    assert Linf("8/255").budget.written == "8/255"
    assert L2(0.5, box=False).box == UNBOXED
    assert Linf("8/255", grid=255).grid == 255
    assert Linf(["8/255", "4/255"]).budget.written == "[8/255, 4/255]"
    other = Linf("8/255").at(parse_budget("4/255"))
    assert (other.eps, other.budget.written) == (4 / 255, "4/255")
    assert Linf(torch.tensor(0.1)).eps == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linf(8), r"Did you mean 8/255\?"),
        (lambda: Linf("8"), r"Did you mean 8/255\?"),
        (lambda: Linf([8, 8, 8]), r"Did you mean 8/255\?"),
        (lambda: Linf(torch.tensor([0.1, 8.0])), "larger than the image range"),
        (lambda: Linf(torch.tensor([0.1, 8.0, math.inf])), "larger than the image range"),
        (lambda: L2([math.inf, 0.3, 0.3]), "takes finite pixel budgets"),
        (lambda: Linf(-0.1), "negative"),
        (lambda: L2(math.nan), "NaN"),
        (lambda: L2("much"), "is not a budget"),
        (lambda: L2(torch.tensor([0.1, -0.1])), "0 or more per sample"),
        (lambda: L2(torch.tensor([0.1, math.nan])), "0 or more per sample"),
        (lambda: L2(torch.rand(2, 2)), r"shape \[N\]"),
        (lambda: L2([]), "one budget per channel"),
        (lambda: L2([0, 0, 0]), "at least one of them above 0"),
        (lambda: L2(["normalized 1", "normalized 2"]), "one budget per channel"),
        (lambda: L0([1, 2, 3]), "L0 counts values"),
    ],
)
def test_bad_budgets(make, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()


def test_in_box() -> None:
    threat = Threat(LINF, 1.0)
    z = torch.tensor([[0.0, 1.0], [-1e-6, 0.5], [0.5, math.nan], [0.5, 1.0000001]]).view(4, 1, 1, 2)
    assert threat.in_box(z).tolist() == [True, False, False, False]
    assert Threat(LINF, 1.0, UNBOXED).in_box(z).tolist() == [True, True, False, True]


@pytest.mark.parametrize("norm", NORMS)
def test_rounding_of_large_images_is_forgiven(norm: str) -> None:
    """At ImageNet's size, too, what a projection returns counts as inside."""
    eps = {"linf": 1 / 255, "l2": 0.5, "l1": 1.0, "l0": 50.0}[norm]
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for threat in (Threat(NORMS[norm], eps), Threat(NORMS[norm], eps, scale=torch.full((3, 1, 1), 0.225))):
        for z in (threat.start(x, Draws(torch.arange(2))), threat.project(x + 0.1 * torch.randn_like(x), x)):
            assert bool(threat.allows(threat.size(z, x)).all())


@QUICK
@given(situations())
def test_the_gradient_of_a_projected_point_can_be_asked_again(situation) -> None:
    """No NaN comes out of finite input."""
    threat, x, z = situation
    assume(bool(z.isfinite().all()))
    assert bool(threat.project(z, x).isfinite().all())
    assert bool(threat.start(x, Draws(torch.arange(4))).isfinite().all())
