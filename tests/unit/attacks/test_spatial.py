"""Rotations and translations: known transformations, and which are tried."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.spatial import Spatial, _outward, _turned
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.oracle import TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps, search
from assay.core.threat import L2, Linf


class Corner(nn.Module):
    """Class 0 while the top left pixel is bright."""

    def forward(self, x: Tensor) -> Tensor:
        value = x[:, 0, 0, 0] - 0.5
        return torch.stack([value, -value], 1)


def spot(height: int = 9, width: int = 9, at: tuple[int, int] = (0, 0)) -> Tensor:
    x = torch.zeros(1, 1, height, width)
    x[0, 0, at[0], at[1]] = 1
    return x


def problem(x: Tensor, eps: float = 1.0) -> Problem:
    return Problem(TorchOracle(Corner()), x, Untargeted(torch.zeros(len(x), dtype=torch.int64)), Linf(eps))


def draws(n: int, seed: int = 0) -> Draws:
    return Draws.of([str(i) for i in range(n)], seed)


def test_quarter_turns_and_whole_moves_are_exact() -> None:
    image = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    quarter = _turned(image, torch.tensor([torch.pi / 2]), torch.zeros(1, 2))
    assert min(float((quarter - torch.rot90(image, k, (2, 3))).abs().max()) for k in (1, 3)) < 1e-5
    # a third of the side: two pixels; what comes in from beyond the edge is black
    moved = _turned(image, torch.zeros(1), torch.tensor([[2 / 3, 0.0]]))
    assert torch.allclose(moved[:, :, :4], image[:, :, 2:], atol=1e-5)
    assert float(moved[:, :, 4:].abs().max()) < 1e-5


def test_a_turn_keeps_distances_in_an_image_that_is_no_square() -> None:
    wide = spot(21, 41, (10, 28))
    turned = _turned(wide, torch.tensor([torch.pi / 2]), torch.zeros(1, 2))[0, 0]
    row, column = divmod(int(turned.argmax()), 41)
    assert (abs(row - 10), column) == (8, 20) or (abs(row - 10), column) == (8, 20)


def test_the_grid_is_tried_from_no_change_outwards_and_has_775_places() -> None:
    attack = Spatial(grid=True)
    assert attack.steps == 31 * 25 - 1
    assert [_outward(i, 5) for i in range(5)] == [0, 0.5, -0.5, 1, -1]
    first = attack.init(problem(spot()), draws(1)).query
    assert torch.allclose(first, spot(), atol=1e-6)


def test_it_finds_that_a_moved_spot_leaves_its_corner_and_stops() -> None:
    found = search(Spatial(rotation=0, translation=0.2, tries=20), problem(spot().repeat(6, 1, 1, 1)), draws(6))
    assert bool(found.success.all())
    assert bool((found.queries < 20).all())
    assert len(set(found.x.flatten(1).sum(1).tolist())) > 1, "each sample has transformations of its own"


def test_a_change_outside_the_budget_does_not_count() -> None:
    found = search(Spatial(tries=5), problem(spot(), 0.1), draws(1), keeps=Keeps.FIRST)
    assert not bool(found.success)
    assert torch.equal(found.x, spot())
    measured = Problem(TorchOracle(Corner()), spot(), Untargeted(torch.zeros(1, dtype=torch.int64)), L2(2))
    assert bool(search(Spatial(rotation=0, translation=0.3, tries=20), measured, draws(1)).success)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_stay_in_the_box(dtype: torch.dtype) -> None:
    x = torch.rand(5, 3, 7, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    made = Spatial(tries=3)
    state = made.init(problem(x), draws(5))
    assert state.query.dtype == dtype
    assert float(state.query.min()) >= 0
    assert float(state.query.max()) <= 1
