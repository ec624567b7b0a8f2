from __future__ import annotations

import pytest
import torch

from assay.attacks.patch import Room
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import rank_of
from assay.intervals import clustered, wilson
from assay.patches import Patch, measure
from assay.patches.evaluate import Where
from tests.unit.patches.toys import SIZE, data, images, model


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
    with pytest.raises(BadInput, match="no readable image of another class"):
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
