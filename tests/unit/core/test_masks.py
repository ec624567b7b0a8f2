"""Masks: what users may write, and that every operation of a threat is that of the values that may change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import assay
from assay.attacks import build
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.masks import Mask, same_mask, with_channels
from assay.core.tensors import take
from assay.core.threat import L0, L1, L2, NORMS, Linf, Threat

N, SHAPE = 5, (3, 6, 7)
TOP, LEFT, HEIGHT, WIDTH = 2, 1, 3, 4


def draw(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def window() -> Tensor:
    mask = torch.zeros(SHAPE[1:])
    mask[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = 1
    return mask


def small(value: Tensor) -> Tensor:
    return value[..., TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]


FORMS = {
    "plane": window(),
    "one channel": window()[None],
    "every channel": window().expand(SHAPE).bool(),
    "per image": window().expand(N, 1, -1, -1),
    "per image and channel": window().expand(N, *SHAPE).int(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_threat_in_a_window_is_the_threat_on_the_window(norm: str, form: str) -> None:
    """What every operation does in a rectangle is what it does to images that are the rectangle."""
    threat = Threat(NORMS[norm], 3.0 if norm == "l0" else 0.4, mask=Mask.of(FORMS[form]))
    alone = dataclasses.replace(threat, mask=None)
    x, grad = draw(0, N, *SHAPE), draw(1, N, *SHAPE) - 0.5
    z = x + draw(2, N, *SHAPE) - 0.5
    inside = threat.inside(z, x)

    def alike(of_whole: Tensor, of_small: Tensor) -> None:
        if of_whole.ndim == 4:
            assert float((of_whole * (1 - window())).abs().max()) == 0
            of_whole = small(of_whole)
        torch.testing.assert_close(of_whole, of_small)

    near = threat.project(z, x)
    assert torch.equal(near * (1 - window()), x * (1 - window()))
    alike(near - x, alone.project(small(z), small(x)) - small(x))
    alike(threat.size(inside, x), alone.size(small(z), small(x)))
    alike(threat.widest(x), alone.widest(small(x)))
    need = torch.full((N,), 0.3)
    alike(threat.size_needed(x, grad, need), alone.size_needed(small(x), small(grad), need))
    rest = ((x - threat.inside(torch.zeros_like(x), x)) * grad).flatten(1).sum(1)
    onto = threat.to_plane(x, grad, (x * grad).flatten(1).sum(1) + need)
    alike(onto - x, alone.to_plane(small(x), small(grad), rest + need) - small(x))
    alike(threat.unit(grad), alone.unit(small(grad)))
    if norm != "l0":
        alike(threat.steepest(grad), alone.steepest(small(grad)))
        alike(threat.stride(grad, x, 0.2), alone.stride(small(grad), small(x), 0.2))
        alike(threat.dual(grad), alone.dual(small(grad)))
        alike(threat.proximal(z, x, need) - x, alone.proximal(small(z), small(x), need) - small(x))
    if norm in ("l2", "l1"):
        alike(threat.slope(z, x), alone.slope(small(z), small(x)))


@pytest.mark.parametrize("norm", NORMS)
def test_a_start_is_spread_over_the_ball_of_the_window(norm: str) -> None:
    mask = Mask.of(window().expand(400, 1, -1, -1))
    threat = Threat(NORMS[norm], 3.0 if norm == "l0" else 0.4, mask=mask)
    x = torch.full((400, *SHAPE), 0.5)
    start = threat.start(x, Draws(torch.arange(400)))
    assert torch.equal(start * (1 - window()), x * (1 - window()))
    size = threat.size(start, x)
    assert bool(threat.allows(size).all())
    if norm in ("l2", "l1"):
        # the radius of a uniform point in 36 dimensions is u^(1/36) of the ball's
        assert float((size / 0.4).mean()) == pytest.approx(36 / 37, abs=0.005)


def test_a_change_outside_has_no_size_that_a_budget_allows() -> None:
    x = draw(0, N, *SHAPE)
    z = x.clone()
    z[1, 0, 0, 0] += 1e-3
    for threat in (Linf(0.5, mask=window()), L2(torch.inf, mask=window())):
        size = threat.size(z, x)
        assert size.isinf().tolist() == [False, True, False, False, False]
        assert threat.allows(size).tolist() == [True, False, True, True, True]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_nearest_boundary_of_a_linear_model_in_a_mask(norm: str) -> None:
    """The distance is the lead over the dual norm of the weights that the mask leaves."""
    weight = draw(3, 2, 126) - 0.5
    mask = draw(4, N, 1, *SHAPE[1:]) < 0.6
    x = draw(0, N, *SHAPE)
    model = nn.Sequential(nn.Flatten(), nn.Linear(126, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(weight)
        y = model(x).argmax(1)
        lead = (model(x)[:, 0] - model(x)[:, 1]).abs()
    slope = ((weight[0] - weight[1]).view(SHAPE) * mask).flatten(1)
    dual = {"linf": slope.abs().sum(1), "l2": slope.norm(dim=1), "l1": slope.abs().amax(1)}[norm]
    make = {"linf": Linf, "l2": L2, "l1": L1}[norm]
    threat = make(torch.full((N,), torch.inf), mask=mask, box=False)
    result = assay.attack(build("deepfool"), model, x, y, threat)
    assert bool(result.success.all())
    torch.testing.assert_close(result.size, lead / dual, rtol=0.03, atol=0)
    assert bool((result.size >= lead / dual * (1 - 1e-4)).all())
    assert torch.equal(torch.where(mask, 0, result.x_adv), torch.where(mask, 0, x))


def test_a_channel_without_a_budget_does_not_change() -> None:
    x, y = draw(0, N, 4, 6, 7), torch.arange(N) % 3
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4 * 42, 3))
    for threat in (Linf([0, "4/255", 0, "8/255"]), L2([0, 0.5, 0, 1]), L1([0, 2, 0, "4"])):
        moved = (assay.attack(assay.PGD(steps=4), model, x, y, threat).x_adv - x).abs().amax((0, 2, 3))
        assert moved[[0, 2]].tolist() == [0, 0]
        assert bool((moved[[1, 3]] > 0).all())
    moved = (assay.attack(assay.PGD(steps=4), model, x, y, Linf([0, "4/255", 0, "8/255"])).x_adv - x).abs()
    torch.testing.assert_close(moved.amax((0, 2, 3)) * 255, torch.tensor([0.0, 4, 0, 8]))
    # the budget of the channel that is left is what it would be alone
    one = assay.attack(assay.FGSM(), model, x, y, Linf([0, 0, 0, "8/255"]))
    same = assay.attack(assay.FGSM(), model, x, y, Linf("8/255", mask=torch.tensor([0, 0, 0, 1]).view(4, 1, 1)))
    torch.testing.assert_close(one.x_adv, same.x_adv)


def test_channels_without_a_budget_and_a_mask_meet() -> None:
    threat = Linf([0, "4/255", "4/255"], mask=window())
    assert threat.mask is not None
    assert torch.equal(threat.mask.free, window().bool() & torch.tensor([False, True, True]).view(3, 1, 1))
    assert threat.free(draw(0, N, *SHAPE)) == 2 * HEIGHT * WIDTH
    with pytest.raises(BadInput, match="empty"):
        Linf([0, "4/255"], mask=torch.tensor([1, 0]).view(2, 1, 1))
    with pytest.raises(BadInput, match="for 2 channels, the budgets are for 3"):
        Linf([0, "4/255", 0], mask=torch.ones(2, 6, 7))


def test_a_mask_per_image_goes_with_its_image() -> None:
    masks = draw(5, N, 1, *SHAPE[1:]) < 0.5
    threat = L2(0.5, mask=masks)
    some = take(threat, torch.tensor([3, 1]))
    assert some.mask is not None and torch.equal(some.mask.free, masks[[3, 1]])
    shared = L2(0.5, mask=masks[0])
    kept = take(shared, torch.tensor([3, 1]))
    assert kept.mask is not None and torch.equal(kept.mask.free, masks[0])
    model = nn.Sequential(nn.Flatten(), nn.Linear(126, 4))
    x, y = draw(0, N, *SHAPE), torch.arange(N) % 4
    whole = assay.attack(assay.PGD(steps=3), model, x, y, threat)
    one = assay.attack(assay.PGD(steps=3), model, x[2:3], y[2:3], L2(0.5, mask=masks[2:3]), ids=["2"])
    torch.testing.assert_close(whole.x_adv[2:3], one.x_adv)


def test_a_sweep_over_budgets_stays_in_the_mask() -> None:
    x, y = draw(0, N, *SHAPE), torch.arange(N) % 4
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(126, 4))
    threats = [Linf(e, mask=window()) for e in ("2/255", "8/255", "32/255")]
    for method in (assay.FGSM(), build("square", queries=20)):
        for one in assay.sweep(method, model, x, y, threats, question="worst_case"):
            assert torch.equal(one.x_adv * (1 - window()), x * (1 - window()))
    with pytest.raises(BadInput, match="mask"):
        assay.sweep(assay.FGSM(), model, x, y, [threats[0], Linf("8/255")])
    with pytest.raises(BadInput, match="mask"):
        assay.sweep(assay.FGSM(), model, x, y, [threats[0], Linf("8/255", mask=1 - window())])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(6, 7), "is empty: no value may change"),
        (torch.cat([torch.ones(2, 1, 6, 7), torch.zeros(1, 1, 6, 7)]), "mask of image 2 is empty"),
        (torch.full((6, 7), 0.5), "holds 0.5, expected 0 .* and 1 .* mask > 0"),
        (torch.full((6, 7), 255, dtype=torch.uint8), "holds 255"),
        (torch.ones(6), r"shape \[6\], expected"),
        (torch.ones(1, 1, 1, 6, 7), "expected"),
        ("mask.png", "is a str, expected a tensor"),
        (torch.tensor([[torch.nan, 1.0]]), "holds nan"),
    ],
)
def test_what_is_no_mask_is_refused(mask: object, message: str) -> None:
    for make in (Linf, L2, L1, L0):
        with pytest.raises(BadInput, match=message):
            make(1 if make is L0 else 0.1, mask=mask)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(7, 6), "mask is 7 x 6 .*images are 6 x 7.*not resized"),
        (torch.ones(2, 6, 7), "for 2 channels, the images have 3"),
        (torch.ones(4, 1, 6, 7), "4 masks for 5 images"),
        (torch.ones(1, 1, 1), "mask is 1 x 1 .*images are 6 x 7"),
    ],
)
def test_a_mask_for_other_images_is_refused(mask: Tensor, message: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(126, 4))
    with pytest.raises(BadInput, match=message):
        assay.attack(assay.FGSM(), model, draw(0, N, *SHAPE), torch.zeros(N, dtype=torch.int64), Linf(0.1, mask=mask))


def test_arrays_and_lists_are_masks_too() -> None:
    for given in (np.eye(3, dtype=bool), np.eye(3), np.eye(3, dtype=np.uint8), [[1, 0, 0], [0, 1, 0], [0, 0, 1]]):
        assert torch.equal(Mask.of(given).free, torch.eye(3).bool()[None])
    assert same_mask(Mask.of(np.eye(3)), Mask.of(torch.eye(3))) and not same_mask(Mask.of(torch.eye(3)), None)
    assert torch.equal(with_channels(None, torch.tensor([True, False])).free.flatten(), torch.tensor([True, False]))


def test_the_bounds_of_a_mask() -> None:
    first, last = Mask.of(window()).bounds(draw(0, N, *SHAPE))
    assert (first.tolist(), last.tolist()) == ([[TOP, LEFT]], [[TOP + HEIGHT - 1, LEFT + WIDTH - 1]])
    own = torch.zeros(2, 3, 6, 7)
    own[0, 2, 5, 0] = own[1, 0, 1, 2] = own[1, 1, 3, 6] = 1
    first, last = Mask.of(own).bounds(draw(0, 2, *SHAPE))
    assert (first.tolist(), last.tolist()) == ([[5, 0], [1, 2]], [[5, 0], [3, 6]])
