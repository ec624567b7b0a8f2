from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.patch import Pasted, Room, paste
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Targeted
from assay.core.oracle import TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps, search
from assay.core.sweep import sweep
from assay.core.threat import L0
from assay.vocabulary import Question


def test_places_are_where_the_patch_fits() -> None:
    draws = Draws(torch.arange(3000))
    places = Room(3, 2, 6, 5).random(draws, "a")
    assert places[:, 0].unique().tolist() == [0, 1, 2, 3] and places[:, 1].unique().tolist() == [0, 1, 2, 3]
    # 0 .. H-k-2: the last two offsets are never used
    published = Room(3, 2, 6, 5, published=True).random(draws, "a")
    assert published[:, 0].unique().tolist() == [0, 1] and published[:, 1].unique().tolist() == [0, 1]
    assert Room(3, 2, 6, 5, at=(3, 1)).random(draws.take(torch.arange(2)), "a").tolist() == [[3, 1], [3, 1]]


def test_a_grid_has_its_last_row_and_column() -> None:
    assert Room(2, 2, 7, 4).grid(3) == [(0, 0), (0, 2), (3, 0), (3, 2), (5, 0), (5, 2)]
    assert Room(2, 2, 7, 4, at=(1, 1)).grid(3) == [(1, 1)]
    with pytest.raises(BadInput, match="stride is 0"):
        Room(2, 2, 7, 4).grid(0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((9, 2, 8, 8), "9 x 2 pixels, larger than the image of 8 x 8|9 x 2 pixels, the image only 8 x 8"),
        ((7, 7, 8, 8, True), "leave out the last two rows"),
        ((2, 2, 8, 8, False, (7, 0)), "row 7, column 0 leaves the image; expected rows 0 to 6"),
    ],
)
def test_rooms_that_cannot_be(arguments: tuple[int, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Room(*arguments)  # type: ignore[arg-type]


def test_pasting_is_slicing_and_leaves_the_images_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 7, 6, generator=generator)
    patch, mask = torch.rand(3, 3, 2, generator=generator), torch.tensor([[1.0, 0.0], [0.5, 1.0], [0.0, 0.25]])
    places = torch.tensor([[0, 0], [4, 4], [2, 1], [1, 3]])
    before = images.clone()
    pasted = paste(images, patch, mask, places)
    expected = images.clone()
    for n, (row, column) in enumerate(places.tolist()):
        window = expected[n, :, row : row + 3, column : column + 2]
        expected[n, :, row : row + 3, column : column + 2] = window * (1 - mask) + patch * mask
    assert torch.equal(pasted, expected) and torch.equal(images, before)
    own = torch.rand(4, 3, 3, 2, generator=generator)
    one = paste(images[2:3], own[2], mask, places[2:3])
    assert torch.equal(paste(images, own, mask, places)[2], one[0])


def test_gradients_reach_the_patch() -> None:
    images, places = torch.rand(2, 1, 4, 4, dtype=torch.float64), torch.tensor([[0, 1], [2, 2]])
    mask = torch.tensor([[1.0, 0.5], [1.0, 1.0]], dtype=torch.float64)
    patch = torch.rand(1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: paste(images, p, mask, places), (patch,))


MODEL = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5)).eval()


def setting(n: int = 6) -> tuple[Problem, Draws, Tensor]:
    x = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    y = torch.arange(n) % 5
    goal = Targeted(y, torch.full_like(y, 2))
    return Problem(TorchOracle(MODEL), x, goal, L0(12)), Draws.of([f"s/{i}" for i in range(n)], 7), x


def patch() -> Tensor:
    return torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("published", [False, True])
def test_placements_accumulate_as_in_a_notebook_that_pastes_into_its_own_batch(published: bool) -> None:
    problem, draws, x = setting()
    attack = Pasted(patch(), torch.ones(2, 2), published=published, image=(8, 8))
    curve = sweep(attack, problem, draws, [12.0, 24.0, 36.0, 48.0], Question.AS_ATTACKED)
    # the notebook: one batch, edited in place, again and again; offsets below H - k - 1 where it leaves out the last
    batch, choices = x.clone(), 8 - 2 + 1 - (2 if published else 0)
    for number, found in enumerate(curve.found, start=1):
        offsets = (draws.fold("init").uniform(f"placement {number}", 2) * choices).long()
        for image, (row, column) in zip(batch, offsets.tolist(), strict=True):
            image[:, row : row + 2, column : column + 2] = patch()
        assert torch.equal(found.x, batch)
        assert torch.equal(found.success, MODEL(batch).argmax(1) == 2)
        assert bool((found.size <= 12 * number).all())
    assert torch.equal(problem.x, x)
    assert [int(found.forwards.sum()) for found in curve.found] == [6, 6, 6, 6]


def test_a_numbered_placement_is_one_patch_where_its_number_says() -> None:
    problem, draws, x = setting()
    for number in (1, 2, 3):
        attack = Pasted(patch(), torch.ones(2, 2), placement=number, image=(8, 8))
        found = search(attack, problem, draws, keeps=Keeps.LAST)
        offsets = (draws.fold("init").uniform(f"placement {number}", 2) * 7).long()
        assert torch.equal(found.x, paste(x, patch(), torch.ones(2, 2), offsets))


def test_a_budget_below_one_patch_pastes_none() -> None:
    problem, draws, x = setting()
    small = Problem(problem.oracle, x, problem.goal, L0(11))
    assert torch.equal(search(Pasted(patch(), torch.ones(2, 2), image=(8, 8)), small, draws, keeps=Keeps.LAST).x, x)


def test_the_worst_place_of_a_grid_is_found() -> None:
    problem, draws, x = setting(12)
    room = Room(2, 2, 8, 8)
    brute = torch.stack([
        MODEL(paste(x, patch(), torch.ones(2, 2), torch.tensor(place).expand(12, 2))).argmax(1) == 2
        for place in room.grid(2)
    ])  # fmt: skip
    attack = Pasted(patch(), torch.ones(2, 2), stride=2, image=(8, 8))
    assert attack.steps + 1 == len(room.grid(2)) == 16
    found = search(attack, problem, draws)
    assert torch.equal(found.success, brute.any(0))
    # a sample stops at its first success
    first = torch.where(brute.any(0), brute.int().argmax(0) + 1, 16)
    assert torch.equal(found.forwards, first)


def test_results_do_not_depend_on_neighbours() -> None:
    problem, draws, _ = setting()
    attack = Pasted(patch(), torch.ones(2, 2), places=4, image=(8, 8))
    whole = search(attack, problem, draws, keeps=Keeps.FIRST)
    keep = torch.tensor([1, 4])
    part = Problem(
        problem.oracle, problem.x[keep], Targeted(problem.goal.y[keep], torch.tensor([2, 2])), problem.threat
    )
    assert torch.equal(search(attack, part, draws.take(keep), keeps=Keeps.FIRST).x, whole.x[keep])


def test_images_of_another_size_are_refused() -> None:
    problem, draws, _ = setting()
    with pytest.raises(BadInput, match="The patch is for images of 3 x 9 x 9, these are 3 x 8 x 8"):
        search(Pasted(patch(), torch.ones(2, 2), image=(9, 9)), problem, draws)


def test_pasting_is_slicing_at_every_place() -> None:
    generator = torch.Generator().manual_seed(6)
    image, patch_ = torch.rand(1, 2, 5, 6, generator=generator), torch.rand(2, 2, 3, generator=generator)
    masks = torch.rand(20, 2, 3, generator=generator)
    places = torch.tensor(Room(2, 3, 5, 6).grid(1))
    assert len(places) == 4 * 4
    images = image.expand(16, -1, -1, -1)  # a view of one image: writing to it would show in all of them
    pasted = paste(images, patch_, masks[:16], places)
    for n, (row, column) in enumerate(places.tolist()):
        expected = image[0].clone()
        window = expected[:, row : row + 2, column : column + 3]
        expected[:, row : row + 2, column : column + 3] = window * (1 - masks[n]) + patch_ * masks[n]
        assert torch.equal(pasted[n], expected)


def test_gradients_reach_patches_of_one_per_image() -> None:
    images, places = torch.rand(2, 1, 4, 4, dtype=torch.float64), torch.tensor([[0, 1], [2, 2]])
    mask = torch.tensor([[[1.0, 0.5], [1.0, 0.0]], [[0.2, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    patches = torch.rand(2, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: paste(images, p, mask, places), (patches,))


def test_the_published_range_is_that_of_a_randint_below_h_less_k_less_1() -> None:
    # numpy's randint(0, H - k - 1) excludes its end: 0 .. H - k - 2
    assert Room(32, 32, 224, 224, published=True).choices == (224 - 32 - 1, 224 - 32 - 1)
    assert Room(32, 32, 224, 224).choices == (224 - 32 + 1, 224 - 32 + 1)
    assert Room(2, 2, 4, 4, published=True).grid(1) == [(0, 0)]
    assert Room(2, 2, 8, 8, published=True).grid(3)[-1] == (4, 4)


def test_a_mask_that_covers_part_counts_what_it_covers() -> None:
    problem, draws, x = setting()
    mask = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    attack = Pasted(patch(), mask, image=(8, 8))
    assert attack.values == 9
    found = [
        search(attack, Problem(problem.oracle, x, problem.goal, L0(eps)), draws, keeps=Keeps.LAST) for eps in (8, 9, 18)
    ]
    assert torch.equal(found[0].x, x)
    assert [bool((one.size <= eps).all()) for one, eps in zip(found, (8, 9, 18), strict=True)] == [True] * 3
    assert found[1].size.tolist() == [9.0] * 6
    only = search(Pasted(patch(), mask, image=(8, 8), at=(3, 4)), problem, draws, keeps=Keeps.LAST)
    assert torch.equal(only.x[:, :, 3, 5], x[:, :, 3, 5])


def test_budgets_of_their_own_give_every_image_its_number_of_patches() -> None:
    problem, draws, x = setting(3)
    attack = Pasted(patch(), torch.ones(2, 2), image=(8, 8))
    own = Problem(problem.oracle, x, problem.goal, L0(torch.tensor([0.0, 12.0, 24.0])))
    found = search(attack, own, draws, keeps=Keeps.LAST).x
    for row, eps in enumerate((0, 12, 24)):
        alike = Problem(problem.oracle, x, problem.goal, L0(eps))
        assert torch.equal(found[row], search(attack, alike, draws, keeps=Keeps.LAST).x[row])


def test_the_worst_of_some_placements_is_found() -> None:
    problem, draws, _ = setting(12)
    each = [
        search(Pasted(patch(), torch.ones(2, 2), placement=i, image=(8, 8)), problem, draws).success for i in (2, 3, 4)
    ]
    found = search(Pasted(patch(), torch.ones(2, 2), placement=2, places=3, image=(8, 8)), problem, draws)
    assert torch.equal(found.success, torch.stack(each).any(0))


def test_no_end_of_patches_is_refused() -> None:
    problem, draws, x = setting()
    endless = Problem(problem.oracle, x, problem.goal, L0(float("inf")))
    with pytest.raises(BadInput, match="The budget is infinite; a patch covers 12 values"):
        search(Pasted(patch(), torch.ones(2, 2), image=(8, 8)), endless, draws)
