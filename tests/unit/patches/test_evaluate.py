from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.attacks.patch import Room
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import rank_of
from assay.data import PictureError
from assay.patches import Patch, Transforms, measure
from assay.patches.evaluate import Where
from assay.statistics import clustered, wilson
from tests.support.patch_toys import SIZE, data, images, model


def a_patch(target: int | None = 1) -> Patch:
    return Patch(torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(8)), torch.ones(4, 4), target, "crane")


@pytest.mark.parametrize("where", [Where(7), Where(stride=3), Where(at=(2, 5)), Where(5, published=True)])
@pytest.mark.parametrize("target", [1, None])
def test_it_is_what_a_loop_over_images_and_places_counts(where: Where, target: int | None) -> None:
    patch, network = a_patch(target), model().module
    found = measure(patch, model(), data(9), where, seed=4)
    kept = [i for i in range(9) if i % 3 != target]
    assert found.ids == tuple(f"toy/1/{i}" for i in kept)
    hits = []
    for row, i in enumerate(kept):
        for place in found.places[row].tolist():
            image = images(9)[i].clone()
            image[:, place[0] : place[0] + 4, place[1] : place[1] + 4] = patch.pixels
            answer = int(network(image[None]).argmax())
            hits.append(answer == target if target is not None else answer != i % 3)
    assert found.hits.flatten().tolist() == hits and found.passes == len(hits)
    assert found.success == sum(hits) / len(hits)
    assert found.worst_place == pytest.approx(float(found.hits.any(1).double().mean()))
    low, high = found.interval
    assert 0 <= low <= found.success <= high <= 1


def test_places_are_those_asked_for() -> None:
    room = Room(4, 4, SIZE, SIZE)
    assert measure(a_patch(), model(), data(4), Where(stride=3)).places[0].tolist() == [list(p) for p in room.grid(3)]
    fixed = measure(a_patch(), model(), data(4), Where(at=(2, 5)))
    assert fixed.places.unique(dim=1).tolist() == [[[2, 5]]] * len(fixed.ids)
    one, two = (measure(a_patch(), model(), data(n), Where(6), seed=1).places for n in (4, 9))
    assert torch.equal(one, two[: len(one)])
    assert not torch.equal(one, measure(a_patch(), model(), data(4), Where(6), seed=2).places)
    assert bool((measure(a_patch(), model(), data(9), Where(200, published=True)).places <= 6).all())


def test_a_fine_grid_comes_in_parts() -> None:
    found = measure(a_patch(), model(), data(3), Where(stride=1))
    assert found.hits.shape == (2, 81)


def test_the_target_among_five_of_many() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIZE * SIZE, 12)).eval()
    from assay.models import Classifier

    wide = Classifier(network, "wide", "d", (3, SIZE, SIZE))
    found = measure(a_patch(7), wide, data(6), Where(8), seed=3)
    pasted = images(6)[:, None].repeat(1, 8, 1, 1, 1)
    for i in range(6):
        for j, (row, column) in enumerate(found.places[i].tolist()):
            pasted[i, j, :, row : row + 4, column : column + 4] = a_patch().pixels
    ranks = rank_of(network(pasted.flatten(0, 1)), torch.full((48,), 7)).view(6, 8)
    assert torch.equal(found.in_top5, ranks <= 5) and torch.equal(found.hits, ranks == 1)


def test_what_cannot_be_measured() -> None:
    with pytest.raises(BadInput, match="All 1 images of toy are of the patch's target class"):
        measure(a_patch(0), model(), data(1), Where(3))
    with pytest.raises(BadInput, match="The patch has 3 channels, the images have 1"):
        measure(a_patch(), model(channels=1), data(3, channels=1), Where(3))
    with pytest.raises(BadInput, match="placements is 0"):
        Where(0)
    with pytest.raises(BadInput, match="target class 5 does not exist"):
        measure(a_patch(5), model(), data(3), Where(3))


def test_an_interval_knows_what_is_one_observation() -> None:
    # all alike within a picture: as many observations as pictures
    assert clustered([10, 10, 0, 0], 10) == pytest.approx(wilson(2, 4), abs=0.06)
    assert clustered([10] * 5, 10) == wilson(5, 5)
    assert clustered([0] * 5, 10) == wilson(0, 5)
    # as much spread between pictures as independent placements have: nearly all of them count
    generator = torch.Generator().manual_seed(0)
    hits = (torch.rand(400, 10, generator=generator) < 0.3).sum(1).tolist()
    low, high = clustered(hits, 10)
    expected = wilson(sum(hits), 4000)
    assert high - low == pytest.approx(expected[1] - expected[0], rel=0.15)
    assert clustered([], 10) == (0.0, 1.0)


def test_draws_of_ids_are_the_places() -> None:
    found = measure(a_patch(), model(), data(3), Where(4), seed=6)
    room = Room(4, 4, SIZE, SIZE)
    assert torch.equal(found.places[0], room.random(Draws.of([found.ids[0]], 6), "placement", 4)[0])


def test_groups_that_differ_less_than_by_chance_show_all_of_their_observations() -> None:
    assert clustered([5] * 8, 10) == wilson(40, 80)
    # of one group nobody knows how alike its observations are
    assert clustered([5], 10) == wilson(0.5, 1)


@given(st.integers(1, 6).flatmap(lambda each: st.tuples(st.just(each), st.lists(st.integers(0, each), min_size=1))))
def test_an_interval_lies_between_that_of_groups_and_that_of_all(case: tuple[int, list[int]]) -> None:
    each, hits = case
    share, groups, total = sum(hits) / (each * len(hits)), len(hits), each * len(hits)
    low, high = clustered(hits, each)
    widest, narrowest = wilson(share * groups, groups), wilson(sum(hits), total)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1 and widest[0] <= low + 1e-9
    assert low <= narrowest[0] + 1e-9 and high >= narrowest[1] - 1e-9 and high <= widest[1] + 1e-9


def test_each_group_of_its_own_mind_counts_once() -> None:
    # all alike inside, spread over two outcomes: exactly one observation per group
    assert clustered([10] * 30 + [0] * 10, 10) == pytest.approx(wilson(30, 40), abs=1e-9)


def test_images_of_another_size_are_refused() -> None:
    small = dataclasses.replace(data(4), input_shape=None, read=images(4)[:, :, :10].contiguous().__getitem__)
    with pytest.raises(BadInput, match="The images are 3 x 10 x 12; the patch is for images of 3 x 12 x 12"):
        measure(a_patch(), model(), small, Where(3))


def test_a_picture_that_cannot_be_read_is_left_out() -> None:
    def read(at: int) -> torch.Tensor:
        if at == 2:
            raise PictureError("torn")
        return images(6)[at]

    found = measure(a_patch(), model(), dataclasses.replace(data(6), read=read), Where(3))
    assert found.ids == ("toy/1/0", "toy/1/3", "toy/1/5")


def test_transforms_are_measured_and_drawn_per_image_from_the_seed() -> None:
    light = Transforms(brightness=0.5)
    one, two = (measure(a_patch(), model(), data(n), Where(20), light, seed=2) for n in (4, 9))
    assert torch.equal(one.hits, two.hits[: len(one.ids)])
    pasted = torch.cat([seen_by(light, 2, 4), seen_by(light, 3, 4)])
    assert not torch.equal(pasted[0], pasted[1])


def seen_by(transforms: Transforms, seed: int, n: int) -> torch.Tensor:
    """Return what the model is shown, image by image."""
    shown: list[torch.Tensor] = []
    classifier = model()
    with classifier.module.register_forward_pre_hook(lambda _, given: shown.append(given[0].clone())):
        measure(a_patch(), classifier, data(n), Where(at=(2, 5)), transforms, seed)
    return torch.cat(shown)[None]


def test_images_of_the_target_class_and_without_scores_are_counted() -> None:
    class Dazzled(torch.nn.Module):
        """Has no scores for images of one channel value, which the last image has wherever the patch lies."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = model().module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            marked = (x[:, :, -1, -1] == images(9)[8, :, -1, -1]).all(1, keepdim=True)
            return torch.where(marked, torch.nan, self.inner(x))

    plain = measure(a_patch(), model(), data(9), Where(at=(1, 1)))
    assert (plain.excluded, plain.errors, len(plain.ids)) == (3, 0, 6)
    dazzled = dataclasses.replace(model(), module=Dazzled().eval())
    found = measure(a_patch(), dazzled, data(9), Where(at=(1, 1)))
    assert (found.excluded, found.errors, found.passes) == (3, 1, 6)
    assert found.ids == plain.ids[:-1] and torch.equal(found.hits, plain.hits[:-1])
