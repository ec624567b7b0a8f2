"""Block-grey attacks: closed form, blocks that stay blocks, and what lies inside what."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import assay
from assay.attacks.block_grey import BlockGrey, BlockGreySearch
from assay.attacks.gradient import PGD
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.search import Keeps
from assay.core.threat import Linf, YCbCr
from tests.support.bench import Case, Linear

MAKER = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(3 * 8 * 12, 2, generator=MAKER)
X = 0.1 + 0.8 * torch.rand(10, 3, 8, 12, generator=MAKER)
MODEL = Linear(WEIGHT, torch.zeros(2))
SLOPE = (WEIGHT[:, 1] - WEIGHT[:, 0]).view(3, 8, 12)
Y = MODEL(X).argmax(1).detach()


def block_sums(value: Tensor, block: int) -> Tensor:
    """Return the sums over blocks and channels, written down with loops."""
    height, width = value.shape[-2:]
    sums = [
        [value[..., i : i + block, j : j + block].sum((-3, -2, -1)) for j in range(0, width, block)]
        for i in range(0, height, block)
    ]
    return torch.stack([torch.stack(row, -1) for row in sums], -2)


def gain(attack, threat) -> Tensor:
    moved = Case(MODEL, X, Untargeted(Y), threat).run(attack, Keeps.WORST).x - X
    return (moved * SLOPE).flatten(1).sum(1).abs()


@pytest.mark.parametrize("block", [1, 2, 4, 5, 8, 100])
def test_on_a_linear_model_the_gain_is_that_of_the_closed_form(block: int) -> None:
    best = 0.05 * block_sums(SLOPE, block).abs().sum()
    torch.testing.assert_close(
        gain(BlockGrey(block, 10, objective=margin), Linf(0.05)), best.expand(10), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("block", [2, 5])
def test_the_search_comes_near_the_closed_form(block: int) -> None:
    best = 0.05 * block_sums(SLOPE, block).abs().sum()
    found = gain(BlockGreySearch(block, queries=300, rescale=True), Linf(0.05))
    assert bool((found <= best * 1.0001).all()) and float(found.mean()) > 0.9 * best


@pytest.mark.parametrize("attack", [BlockGrey(3, 6), BlockGreySearch(3, 20)], ids=lambda a: type(a).__name__)
def test_every_point_is_grey_and_constant_on_blocks_in_the_box(attack) -> None:
    dark = (X - 0.3).clamp(0, 1)
    for keeps in Keeps:
        found = Case(MODEL, dark, Untargeted(MODEL(dark).argmax(1).detach()), Linf(0.2)).run(attack, keeps)
        change = found.x - dark
        for i, j in itertools.product(range(0, 8, 3), range(0, 12, 3)):
            tile = change[:, :, i : i + 3, j : j + 3].flatten(1)
            assert float((tile.amax(1) - tile.amin(1)).max()) < 2e-7
        assert float(found.x.min()) >= 0 and float(found.x.max()) <= 1


def test_a_block_goes_as_far_as_the_first_of_its_values_that_meets_the_box() -> None:
    """Downhill is dark: every block ends at minus its darkest value, or minus the budget."""
    weight = torch.stack([torch.ones(288), torch.zeros(288)], 1)
    found = Case(Linear(weight, torch.tensor([0.0, 0.5])), X, Untargeted(torch.zeros(10, dtype=torch.int64)), Linf(0.3))
    change = found.run(BlockGrey(4, objective=margin), Keeps.WORST).x - X
    darkest = X.unfold(2, 4, 4).unfold(3, 4, 4).amin((1, 4, 5))
    assert float(darkest.max()) < 0.3
    torch.testing.assert_close(change[:, 0, ::4, ::4], -darkest, atol=1e-6, rtol=0)


def test_blocks_of_one_pixel_are_a_change_of_y_alone() -> None:
    """The same points as PGD in YCbCr, to the last step."""
    for x in (X, (1.6 * X - 0.3).clamp(0, 1)):
        goal = Untargeted(MODEL(x).argmax(1).detach())
        ours = Case(MODEL, x, goal, Linf(0.07)).run(BlockGrey(1, 7, random_start=False), Keeps.LAST)
        theirs = Case(MODEL, x, goal, YCbCr(0.07)).run(PGD(7, random_start=False), Keeps.LAST)
        torch.testing.assert_close(ours.x, theirs.x, atol=3e-7, rtol=0)
        assert torch.equal(ours.success, theirs.success)


def test_larger_blocks_leave_more_where_one_size_divides_the_other() -> None:
    """Sets nest: per image, on a model where every attack finds the best point of its set."""
    climb = {"steps": 10, "objective": margin}
    blocks = [(BlockGrey(block, **climb), Linf(0.05)) for block in (1, 2, 4, 8)]
    sets = [(PGD(**climb), Linf(0.05)), (PGD(**climb), YCbCr(0.05)), *blocks]
    kept = [~assay.attack(attack, MODEL, X, Y, threat).success for attack, threat in sets]
    for fewer, more in itertools.pairwise(kept):
        assert bool((fewer <= more).all())
    assert int(kept[0].sum()) < int(kept[-1].sum())


def test_blocks_without_pixels_are_refused() -> None:
    for attack in (BlockGrey, BlockGreySearch):
        with pytest.raises(BadInput, match="block"):
            attack(0)
