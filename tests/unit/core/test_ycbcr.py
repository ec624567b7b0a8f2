"""Threats in Y, Cb and Cr: the matrix, the measure, the projection into the box, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import assay
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.threat import YCbCr, threat_in
from assay.core.ycbcr import Components
from tests.support.bench import Linear, unboxed

ALL = (1.0, 0.5, 0.25)
X = torch.rand(6, 3, 5, 4, generator=torch.Generator().manual_seed(0))
D = torch.randn(6, 3, 5, 4, generator=torch.Generator().manual_seed(1))


def draws(n: int) -> Draws:
    return Draws.of([str(i) for i in range(n)], 0)


def test_the_matrix_is_that_of_jpeg() -> None:
    """Pillow converts by the same full-range matrix, rounded to 8 bits."""
    grey = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(2))
    theirs = np.asarray(Image.fromarray(grey.byte().numpy()).convert("YCbCr")).astype(float)
    ours = Components((1, 1, 1)).measured(grey.permute(2, 0, 1)[None].double() / 255)[0].permute(1, 2, 0) * 255
    ours = ours + torch.tensor([0, 128, 128])
    assert float((ours - torch.from_numpy(theirs)).abs().max()) < 1.01


def test_a_step_of_one_component_moves_the_channels_by_known_amounts() -> None:
    steps = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)
    moved = Components((1, 1, 1)).change(steps).flatten(1)
    expected = [[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]]
    torch.testing.assert_close(moved, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("weights", [ALL, (1, 0, 0), (0, 1, 2)], ids=str)
def test_measure_change_and_gradient_belong_together(weights: tuple[float, float, float]) -> None:
    components = Components(weights)
    u = torch.randn(2, components.count, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(components.measured(components.change(u)), u)
    # the slope of g . change(u) by u
    g = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    u.requires_grad_()
    (g * components.change(u)).sum().backward()
    torch.testing.assert_close(components.gradient(g), u.grad)


def test_the_projection_on_shades_of_grey_is_the_nearest_point() -> None:
    """Of Y alone: the shift clamped to the budget and to the room of the tightest channel, pixel by pixel."""
    eps, t = 0.3, torch.randn(6, 1, 5, 4)
    z = YCbCr(eps).project(X + t, X)
    low, high = (-X).amax(1, keepdim=True).clamp_min(-eps), (1 - X).amin(1, keepdim=True).clamp_max(eps)
    torch.testing.assert_close(z, X + t.maximum(low).minimum(high), atol=2e-7, rtol=0)


@pytest.mark.parametrize("weights", [ALL, (0, 1, 0), (1, 0, 0)], ids=str)
def test_projected_points_lie_in_budget_and_box_and_stay(weights: tuple[float, float, float]) -> None:
    threat = YCbCr(0.1, weights)
    z = threat.project(X + D, X)
    assert bool(threat.allows(threat.size(z, X)).all()) and bool(threat.in_box(z).all())
    torch.testing.assert_close(threat.project(z, X), z, atol=3e-7, rtol=0)
    # as long as the box lets it be: without one the whole budget is used
    free = unboxed(threat)
    torch.testing.assert_close(free.size(free.project(X + 100 * D, X), X), torch.full((6,), 0.1), atol=1e-5, rtol=0)
    # towards the projection without the box, and as far as the box lets it go
    long = free.project(X + D, X) - X
    share = ((z - X) * long).sum(1) / long.square().sum(1).clamp_min(1e-12)
    torch.testing.assert_close(z - X, share[:, None] * long, atol=1e-6, rtol=0)
    cut = share < 1 - 1e-4
    at_edge = torch.minimum(z, 1 - z).amin(1) < 1e-6
    assert int(cut.sum()) > 3 and bool(at_edge[cut].all())


def test_what_has_no_weight_may_not_change() -> None:
    threat = YCbCr(1.0)
    assert bool(threat.allows(threat.size(X + 0.01, X)).all())
    tinted = X + torch.tensor([0.01, 0.01, 0.01001]).view(3, 1, 1)
    assert not bool(threat.allows(threat.size(tinted, X)).any())
    assert not bool(threat.at(torch.inf).allows(threat.size(tinted, X)).any())


@pytest.mark.parametrize("name", ["fgsm", "r-fgsm", "ffgsm", "bim", "pgd", "mi-fgsm", "apgd", "apgd-t"])
def test_on_a_linear_model_the_gain_is_that_of_the_closed_form(name: str) -> None:
    """Without a box: eps times the sum over pixels of |sum over channels of the weights|, for Y alone."""
    maker = torch.Generator().manual_seed(3)
    weight, eps = torch.randn(60, 2, generator=maker), 0.02
    options = {"start_share": 0.0} if name == "r-fgsm" else {"step_size": 2.0} if name == "ffgsm" else {}
    threat = YCbCr(eps, box=False)
    y = Linear(weight, torch.zeros(2))(X).argmax(1)
    found = assay.attack(
        assay.attacks.build(name, **options), Linear(weight, torch.zeros(2)), X, y, threat, keep="worst"
    )
    slope = (weight[:, 1] - weight[:, 0]).view(3, 5, 4)
    gain = eps * slope.sum(0).abs().sum()
    (lead,) = torch.linalg.vecdot((found.x_adv - X).flatten(1), slope.flatten()[None])[None]
    torch.testing.assert_close(lead.abs(), gain.expand(6), rtol=1e-4, atol=1e-5)


def test_every_component_gains_its_share_on_a_linear_model() -> None:
    weight, eps = torch.randn(60, 2, generator=torch.Generator().manual_seed(3)), 0.02
    slope = (weight[:, 1] - weight[:, 0]).view(1, 3, 5, 4)
    y = Linear(weight, torch.zeros(2))(X).argmax(1)
    gains = []
    for weights in (ALL, (1, 0, 0), (0, 0.5, 0), (0, 0, 0.25)):
        threat = YCbCr(eps, weights, box=False)
        moved = assay.attack(assay.FGSM(), Linear(weight, torch.zeros(2)), X, y, threat).x_adv - X
        gains.append((moved * slope).flatten(1).sum(1).abs())
    torch.testing.assert_close(gains[0], sum(gains[1:]), rtol=1e-4, atol=1e-5)


def test_a_random_start_fills_the_ball_of_the_components() -> None:
    threat = YCbCr(0.1, ALL, box=False)
    x = torch.full((400, 3, 2, 2), 0.5)
    u = Components(ALL).measured(threat.start(x, draws(400)) - x) / 0.1
    assert bool((u.abs() <= 1 + 1e-5).all())
    torch.testing.assert_close(u.mean(0), torch.zeros(3, 2, 2), atol=0.12, rtol=0)
    torch.testing.assert_close(u.square().mean(0), torch.full((3, 2, 2), 1 / 3), atol=0.06, rtol=0)


def test_a_change_of_y_is_as_large_in_rgb_and_on_the_grid() -> None:
    x = (X * 255).round() / 255
    threat = YCbCr("2.5/255", grid=255)
    z = threat.snap(threat.project(x + 0.3, x), x)
    levels = ((z - x) * 255).round()
    assert torch.equal(levels, levels[:, :1].expand_as(levels)) and float(levels.abs().max()) == 2
    assert bool(threat.allows(threat.size(z, x)).all())
    torch.testing.assert_close(threat.size(z, x), assay.Linf(1).size(z, x), atol=1e-6, rtol=0)


def test_budgets_per_component_and_per_sample() -> None:
    each = YCbCr([0.5, 0, 0.25])
    assert (each.eps, each.components) == (1.0, Components((0.5, 0.0, 0.25)))
    own = YCbCr(torch.linspace(0, 0.1, 6))
    z = own.project(X + 1, X)
    assert bool((own.size(z, X) <= torch.linspace(0, 0.1, 6) + 1e-6).all())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"components": (0, 0, 0)}, "at least one of them above 0"),
        ({"components": (1, -1, 0)}, "three numbers of 0 or more"),
        ({"components": (1, 0)}, "three numbers"),
        ({"components": "1,0,0"}, "three numbers"),
        ({"eps": 8}, r"8/255"),
        ({"eps": "normalized 0.1"}, "in pixels"),
        ({"components": (1, 1, 1), "grid": 255}, "grid"),
        ({"eps": [0.1, 0, 0], "components": (1, 0, 0)}, "Give one of them"),
    ],
    ids=str,
)
def test_slips_are_named(given: dict, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        YCbCr(**{"eps": 0.1, **given})
    with pytest.raises(BadInput, match="norm is l2"):
        threat_in("l2", components=Components())


@pytest.mark.parametrize("channels", [1, 4, 8])
def test_other_images_than_colour_are_refused(channels: int) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * channels, 2))
    with pytest.raises(BadInput, match=rf"{channels} channels, expected 3"):
        assay.attack(assay.PGD(1), net, torch.rand(2, channels, 4, 4), torch.tensor([0, 1]), YCbCr(0.1))


def test_a_mask_of_channels_and_attacks_that_need_planes_are_refused() -> None:
    net, y = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 2)), torch.zeros(6, dtype=torch.int64)
    with pytest.raises(BadInput, match="differs between channels"):
        mask = torch.tensor([1, 0, 0]).view(3, 1, 1).expand(3, 5, 4)
        assay.attack(assay.PGD(1), net, X, y, YCbCr(0.1, mask=mask))
    for name, says in (("fab", "climbs a gradient"), ("square", "not in ycbcr")):
        with pytest.raises(BadInput, match=says):
            assay.attack(assay.attacks.build(name), net, X, net(X).argmax(1), YCbCr(0.1))
