"""The norm of patches: the side of the square around every changed pixel."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

import assay
from assay.core.budget import check_budget, parse_budget
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.threat import Patch, threat_in


def side_of(change: torch.Tensor) -> int:
    """The definition: the smallest p such that some p x p square holds all that changed."""
    changed = (change != 0).any(0)
    height, width = changed.shape
    for side in range(max(height, width) + 1):
        for row, column in itertools.product(range(height), range(width)):
            rest = changed.clone()
            rest[row : row + side, column : column + side] = False
            if not bool(rest.any()):
                return side
    raise AssertionError("the whole image holds every change")


def test_the_size_is_that_of_the_smallest_square() -> None:
    maker = torch.Generator().manual_seed(0)
    x = torch.rand(60, 3, 5, 7, generator=maker)
    few = torch.rand(60, 1, 5, 7, generator=maker) < torch.linspace(0, 0.2, 60).view(-1, 1, 1, 1)
    one_channel = torch.rand(60, 3, 5, 7, generator=maker) < 0.5
    z = torch.where(few & one_channel, 1 - x, x)
    threat = Patch(3)
    expected = torch.tensor([side_of(change) for change in z - x], dtype=torch.float32)
    assert torch.equal(threat.size(z, x), expected)
    assert set(expected.tolist()) >= {0.0, 1.0, 3.0, 7.0}
    assert torch.equal(threat.allows(expected), expected <= 3)


def test_a_projection_keeps_the_square_with_the_largest_change() -> None:
    maker = torch.Generator().manual_seed(1)
    x, z = torch.rand(20, 2, 6, 5, generator=maker), torch.rand(20, 2, 6, 5, generator=maker)
    found = Patch(3).project(z, x)
    assert bool((Patch(3).size(found, x) == 3).all())
    for new, old, wanted in zip(found, x, z, strict=True):
        totals = {
            (i, j): float((wanted - old)[:, i : i + 3, j : j + 3].abs().sum())
            for i, j in itertools.product(range(4), range(3))
        }
        i, j = max(totals, key=lambda at: totals[at])
        torch.testing.assert_close(new[:, i : i + 3, j : j + 3], wanted[:, i : i + 3, j : j + 3])
        rest = torch.ones(6, 5, dtype=torch.bool)
        rest[i : i + 3, j : j + 3] = False
        assert torch.equal(new[:, rest], old[:, rest])
    # each to its own size; what fits stays, however small a part of it is
    sides = torch.arange(20) % 7
    each = dataclasses.replace(Patch(3), eps=sides.float())
    assert bool((each.size(each.project(z, x), x) == sides.clamp_max(6)).all())
    tiny = x.clone()
    tiny[:, :, 1, 1], tiny[:, :, 3, 3] = 1 - x[:, :, 1, 1], (x[:, :, 3, 3] + 1e-6).clamp_max(1)
    torch.testing.assert_close(Patch(3).project(tiny, x), tiny, rtol=0, atol=1e-7)
    assert torch.equal(Patch(3).size(Patch(3).project(tiny, x), x), Patch(3).size(tiny, x))


def test_a_random_start_is_a_square_inside_the_box() -> None:
    x, draws = torch.full((8, 1, 9, 9), 0.5), Draws.of([str(i) for i in range(8)], 0)
    start = Patch(4).start(x, draws)
    assert bool((Patch(4).size(start, x) == 4).all()) and bool(Patch(4).in_box(start).all())
    places = (start != x).float().flatten(1).argmax(1)
    assert len(places.unique()) > 3
    # where a mask forbids all but a column, a patch is a part of it
    column = torch.zeros(9, 9)
    column[:, 2] = 1
    changed = (Patch(4, mask=column).start(x, draws) != x)[:, 0]
    assert torch.equal(changed.any(1).nonzero()[:, 1], torch.full((8,), 2))
    assert bool((changed.sum((1, 2)) == 4).all())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (2.5, "2.5 is not the size of a patch: expected the side of a square, a whole number of pixels"),
        ("8/255", "8/255 is not the size of a patch"),
        ("normalized 2", "normalized 2 is not the size of a patch"),
        (torch.tensor([1.0, 2.5]), "2.5 is not the size"),
        ([3, 3, 0], "one budget, the side of its square, for all channels"),
        (-1, "negative"),
    ],
)
def test_sizes_that_are_none_are_refused(given, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        assay.Patch(given)
    assert check_budget(parse_budget(5), "patch").value == 5


def test_a_patch_has_no_direction() -> None:
    x = torch.rand(2, 1, 4, 4)
    for ask in (lambda t: t.dual(x), lambda t: t.steepest(x), lambda t: t.stride(x, x, 1.0)):
        with pytest.raises(BadInput, match="patch-search"):
            ask(Patch(2))
    with pytest.raises(BadInput, match="patch-search"):
        Patch(2).to_plane(x, x, torch.ones(2))
    with pytest.raises(BadInput, match="square of an image"):
        Patch(2).size(torch.rand(3, 5), torch.rand(3, 5))


def test_the_side_that_gains_enough_and_sides_between() -> None:
    x = torch.full((3, 1, 4, 4), 0.5)
    slope = torch.ones(1, 1, 4, 4).expand(3, 1, 4, 4)
    need = torch.tensor([0.4, 1.9, 100.0])
    assert Patch(2).size_needed(x, slope, need).tolist() == [1, 2, 4]
    norm = threat_in("patch").norm
    assert norm.scaled(torch.tensor([3.0]), 0.9).tolist() == [2]
    assert norm.between(torch.tensor([2.0]), torch.tensor([5.0])).tolist() == [3]
