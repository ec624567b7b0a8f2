from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.attacks.patch import Room, paste
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.patches import Transforms
from assay.patches.placing import Placing

PATCH = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
ROOM = Room(6, 6, 32, 32)


def placed(transforms: Transforms, patch: Tensor = PATCH, mask: Tensor | None = None, **more: Any) -> Tensor:
    mask = torch.ones(6, 6) if mask is None else mask
    return Placing(ROOM, mask, transforms, **more)(patch[None], IMAGES, Draws(torch.tensor([5])))[0]


class Extremes(Draws):
    """Every draw is the upper end of its range."""

    def uniform(self, name: str, *shape: int) -> Tensor:
        return torch.ones(len(self.ids), *shape)


def test_without_ranges_it_is_pasting() -> None:
    places = torch.tensor([[0, 0], [3, 20], [26, 26], [10, 5]])
    assert torch.equal(placed(Transforms(), places=places), paste(IMAGES, PATCH, torch.ones(6, 6), places))
    # the long way round gives the same where it turns by nothing
    near = placed(Transforms(scale=(0.999999, 1.0)), places=places)
    torch.testing.assert_close(near, paste(IMAGES, PATCH, torch.ones(6, 6), places), atol=1e-3, rtol=0)


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    places = torch.tensor([[8, 9]] * 4)
    placing = Placing(ROOM, torch.ones(6, 6), Transforms(rotation=90), places)
    turned = placing(PATCH[None], IMAGES, Extremes(torch.tensor([5])))[0]
    expected = paste(IMAGES, torch.rot90(PATCH, -1, (1, 2)), torch.ones(6, 6), places)
    # a warp of kornia takes its corners to within some hundred-thousandths of a pixel
    torch.testing.assert_close(turned, expected, atol=1e-4, rtol=0)


def test_half_the_size_keeps_the_middle_and_takes_the_mask_along() -> None:
    white, black = torch.ones(3, 6, 6), torch.zeros(4, 3, 32, 32)
    placing = Placing(ROOM, torch.ones(6, 6), Transforms(scale=(0.5, 0.5)), torch.tensor([[10, 10]] * 4))
    covered = placing(white[None], black, Draws(torch.tensor([5])))[0, 0, 0]
    at = torch.arange(32).float()
    middle = (float((covered.sum(1) * at).sum() / covered.sum()), float((covered.sum(0) * at).sum() / covered.sum()))
    assert middle == pytest.approx((12.5, 12.5), abs=1e-3)
    assert 6 < float(covered.sum()) < 14  # of 36
    kept = placing(white[None], IMAGES, Draws(torch.tensor([5])))[0]
    outside = covered == 0
    torch.testing.assert_close(kept[:, :, outside], IMAGES[:, :, outside])


def test_light_changes_the_patch_alone() -> None:
    places = torch.tensor([[8, 9]] * 4)
    placing = Placing(ROOM, torch.ones(6, 6), Transforms(brightness=0.2, contrast=0.5), places)
    lit = placing(PATCH[None], IMAGES, Extremes(torch.tensor([5])))[0]
    expected = ((PATCH - 0.5) * 1.5 + 0.5 + 0.2).clamp(0, 1)
    torch.testing.assert_close(lit, paste(IMAGES, expected, torch.ones(6, 6), places))


ALL = Transforms(rotation=30, scale=(0.6, 1.2), perspective=0.2, brightness=0.1, contrast=0.2, jpeg=50)


def test_gradients_flow_and_numbers_stay_in_range() -> None:
    patch = PATCH.clone().requires_grad_(True)
    seen = placed(ALL, patch)
    seen.sum().backward()
    assert patch.grad is not None and bool((patch.grad != 0).any()) and bool(patch.grad.isfinite().all())
    assert float(seen.detach().min()) >= 0 and float(seen.detach().max()) <= 1


def test_everything_is_drawn_from_the_draws_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = placed(ALL)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(9)
    assert torch.equal(placed(ALL), first)
    placing = Placing(ROOM, torch.ones(6, 6), ALL)
    both = placing(PATCH.expand(2, 3, 6, 6), IMAGES, Draws(torch.tensor([4, 5])))
    torch.testing.assert_close(both[1], first, atol=1e-5, rtol=0)
    assert not torch.equal(both[0], both[1])


def test_jpeg_is_for_colour_images() -> None:
    placing = Placing(ROOM, torch.ones(6, 6), Transforms(jpeg=80))
    with pytest.raises(BadInput, match="JPEG is for colour images; these have 1 channels"):
        placing(PATCH[None, :1], IMAGES[:, :1], Draws(torch.tensor([5])))


@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        ({"scale": (1.0, 0.5)}, "scale is"),
        ({"scale": (0.0, 0.5)}, "scale is"),
        ({"rotation": 200}, "rotation is 200"),
        ({"perspective": 0.25}, "perspective is 0.25; expected a share of the side, 0 to 0.24"),
        ({"brightness": -0.1}, "brightness is -0.1"),
        ({"contrast": 1.0}, "contrast 1.0"),
        ({"jpeg": 0}, "jpeg is 0"),
    ],
)
def test_ranges_that_mean_nothing(ranges: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Transforms(**ranges)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    Transforms(brightness=0.1)
    with pytest.raises(BadInput, match=r"pip install 'assay\[eot\]'"):
        Transforms(rotation=5)


def test_a_mask_turns_with_its_pixels() -> None:
    places, mask = torch.tensor([[8, 9]] * 4), torch.zeros(6, 6)
    mask[:2, :3] = 1
    placing = Placing(ROOM, mask, Transforms(rotation=90), places)
    turned = placing(PATCH[None], IMAGES, Extremes(torch.tensor([5])))[0]
    expected = paste(IMAGES, torch.rot90(PATCH, -1, (1, 2)), torch.rot90(mask, -1, (0, 1)), places)
    torch.testing.assert_close(turned, expected, atol=1e-4, rtol=0)


class Scattered(Draws):
    """Every draw is one end of its range or the other."""

    def uniform(self, name: str, *shape: int) -> Tensor:
        return super().uniform(name, *shape).round()


def test_the_strongest_perspective_folds_no_patch() -> None:
    """Wherever its corners go, a white patch covers one convex area: each row of pixels in one run, none at the rim."""
    placing = Placing(Room(20, 20, 64, 64), torch.ones(20, 20), Transforms(perspective=0.24), torch.tensor([[22, 22]]))
    white, black = torch.ones(1, 3, 20, 20), torch.zeros(1, 3, 64, 64)
    for draw in range(40):
        covered = placing(white, black, Scattered(torch.tensor([draw])))[0, 0, 0] > 0.5
        assert 0.15 * 400 < int(covered.sum()) < 2.4 * 400
        assert not bool(covered[:15].any() | covered[-15:].any())
        runs = covered.int().diff(dim=1, prepend=torch.zeros(64, 1, dtype=torch.int32)).clamp_min(0).sum(1)
        assert int(runs.max()) <= 1


def test_places_and_light_do_not_depend_on_neighbours() -> None:
    # several patches that train side by side: each draws as it would alone
    placing = Placing(ROOM, torch.ones(6, 6), Transforms(brightness=0.2, contrast=0.3))
    both = placing(PATCH.expand(2, 3, 6, 6), IMAGES, Draws(torch.tensor([4, 5])))
    assert torch.equal(both[1], placing(PATCH[None], IMAGES, Draws(torch.tensor([5])))[0])
    other = placing(PATCH[None], IMAGES, Draws(torch.tensor([5])).fold("another look"))[0]
    assert not torch.equal(both[1], other)


@pytest.mark.parametrize("side", [32, 30])
def test_jpeg_loses_less_at_higher_quality(side: int) -> None:
    steps = torch.linspace(0, 3, side)
    images = (0.5 + 0.4 * (steps[:, None] + 2 * steps).sin()).expand(4, 3, side, side)
    losses = []
    for quality in (100, 80, 20):
        # every quality between the lowest and 100 is drawn; this one draws the lowest
        lowest = Transforms(jpeg=quality).compressed(images[None], Lowest(torch.tensor([5])))
        assert lowest.shape == images[None].shape
        losses.append(float((lowest[0] - images).abs().mean()))
    assert losses[0] < losses[1] < losses[2] and losses[0] < 0.03


class Lowest(Draws):
    """Every draw is the lower end of its range."""

    def uniform(self, name: str, *shape: int) -> Tensor:
        return torch.zeros(len(self.ids), *shape)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 2)])
def test_patches_of_any_form_are_bent(shape: tuple[int, int]) -> None:
    placing = Placing(Room(*shape, 32, 32), torch.ones(shape), Transforms(rotation=90), torch.tensor([[10, 12]] * 4))
    turned = placing(torch.ones(1, 3, *shape), torch.zeros(4, 3, 32, 32), Extremes(torch.tensor([5])))[0, 0, 0]
    assert float(turned.sum()) == pytest.approx(shape[0] * shape[1], rel=1e-3)
    at = torch.arange(32).float()
    middle = (float((turned.sum(1) * at).sum() / turned.sum()), float((turned.sum(0) * at).sum() / turned.sum()))
    assert middle == pytest.approx((10 + (shape[0] - 1) / 2, 12 + (shape[1] - 1) / 2), abs=1e-3)
