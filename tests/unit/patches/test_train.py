from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.data import Data
from assay.patches import Recipe, TrainedPatch, measure, train_patch
from assay.patches.evaluate import Where
from assay.patches.pictures import mask_of
from assay.patches.train import PatchFailed
from tests.support.patch_toys import data, images, model

LEARNS: dict[str, Any] = {"target": 1, "epochs": 30, "batch": 8, "optimizer": "adam", "rate": 0.3}


def recipe(**more: Any) -> Recipe:
    return Recipe(**{"mask": torch.ones(5, 5), **LEARNS, **more})


def trained(folder: Path, **more: Any) -> TrainedPatch:
    return train_patch([model()], data(24), recipe(**more), folder)


@pytest.mark.parametrize(
    "more", [{}, {"optimizer": "sgd", "rate": 2.0}, {"mask": mask_of("circle", 5)}, {"at": (2, 3)}]
)
def test_a_patch_reaches_its_target_on_images_it_has_not_seen(tmp_path: Path, more: dict[str, Any]) -> None:
    done = trained(tmp_path, **more)
    where = Where(10, at=more.get("at"))
    new = measure(done.patch, model(), data(20, seed=9), where)
    noise = done.patch.with_pixels(torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(5)))
    grey = done.patch.with_pixels(torch.full((3, 5, 5), 0.5))
    others = [measure(one, model(), data(20, seed=9), where).success for one in (noise, grey)]
    assert new.success > 0.9 > max(others)
    assert done.log[-1]["loss"] < done.log[0]["loss"] and done.log[-1]["success"] > done.log[0]["success"]
    assert done.passes == 30 * 24 and len(done.log) == 30
    assert (done.patch.target, done.patch.target_name) == (1, "crane") and '"toy-0"' in done.patch.facts["models"]


def test_an_untargeted_patch_makes_answers_wrong(tmp_path: Path) -> None:
    def reds(seed: int) -> Data:
        pixels = 0.6 * images(24, seed)
        pixels[:, 0] += 0.25
        return dataclasses.replace(data(24, seed), labels=(0,) * 24, read=pixels.__getitem__)

    done = train_patch([model()], reds(1), recipe(target=None), tmp_path)
    new = measure(done.patch, model(), reds(9), Where(10))
    grey = measure(done.patch.with_pixels(torch.full((3, 5, 5), 0.5)), model(), reds(9), Where(10))
    assert done.patch.target is None and done.patch.name == "untargeted 5 x 5"
    assert new.success > 0.9 > 0.2 > grey.success and new.hits.shape == (24, 10)
    assert done.log[-1]["success"] > 0.9


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_interrupted_anywhere_it_ends_with_the_same_bytes(tmp_path: Path, optimizer: str) -> None:
    few = recipe(epochs=4, optimizer=optimizer)
    whole = train_patch([model()], data(24), few, tmp_path / "whole").patch
    heard = 0

    def stop(now: object) -> None:
        nonlocal heard
        heard += 1
        if heard == 8:  # in the middle of the third epoch of three batches
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_patch([model()], data(24), few, tmp_path / "cut", on_progress=stop)
    told: list[int] = []
    again = train_patch([model()], data(24), few, tmp_path / "cut", on_progress=lambda now: told.append(now.epoch))
    assert told == [3, 3, 3, 4, 4, 4]
    assert torch.equal(again.patch.pixels, whole.pixels)
    for name, patch in (("a", whole), ("b", again.patch)):
        patch.save(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert [row["epoch"] for row in again.log] == [1, 2, 3, 4]
    finished = train_patch([model()], data(24), few, tmp_path / "cut", on_progress=lambda now: told.append(9))
    assert 9 not in told and torch.equal(finished.patch.pixels, whole.pixels)


def test_another_training_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, epochs=1)
    for change in ({"target": 2}, {"rate": 0.1}, {"mask": mask_of("circle", 5)}, {"seed": 1}):
        with pytest.raises(BadInput, match="holds another training"):
            trained(tmp_path, **{"epochs": 1, **change})
    with pytest.raises(BadInput, match="holds another training"):
        train_patch([model(1)], data(24), recipe(epochs=1), tmp_path)
    with pytest.raises(BadInput, match="holds another training"):
        train_patch([model()], data(24, seed=2), recipe(epochs=1), tmp_path)


def test_a_photograph_is_where_it_starts_or_the_patch_itself(tmp_path: Path) -> None:
    photo = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(2))
    assert torch.equal(trained(tmp_path / "a", start=photo, epochs=0).patch.pixels, photo)
    assert not (tmp_path / "a").exists()
    near = trained(tmp_path / "b", start=photo, epochs=1, rate=1e-6).patch.pixels
    torch.testing.assert_close(near, photo.clamp(1e-3, 1 - 1e-3), atol=1e-4, rtol=0)


def test_an_ensemble_serves_all_of_its_models(tmp_path: Path) -> None:
    models = [model(0), model(3)]
    done = train_patch(models, data(24), recipe(), tmp_path)
    assert done.passes == 2 * 30 * 24
    found = [measure(done.patch, one, data(20, seed=9), Where(10)).success for one in models]
    alone = measure(trained(tmp_path / "alone").patch, models[1], data(20, seed=9), Where(10)).success
    assert min(found) > 0.8 and found[1] >= alone


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    broken = dataclasses.replace(model(), module=nn.Sequential(model().module, Nan()))
    with pytest.raises(PatchFailed, match="loss of the patch is nan in epoch 1, batch 1"):
        train_patch([broken], data(24), recipe(), tmp_path)


class Nan(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.nan


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"target": 3}, "target class 3 does not exist; expected 0 to 2"),
        ({"mask": torch.ones(13, 13)}, "13 x 13 pixels"),
        ({"batch": 25}, "A batch of 25 cannot be drawn from 24 images"),
        ({"optimizer": "adm"}, "Unknown optimizer 'adm'. Did you mean 'adam'"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"momentum": 1.0}, "momentum 1.0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"at": (9, 0)}, "row 9, column 0 leaves the image"),
        ({"start": torch.rand(3, 4, 5)}, r"start is \[3, 4, 5\]; expected \[3, 5, 5\]"),
        ({"channels": 1, "start": torch.rand(3, 5, 5)}, r"expected \[1, 5, 5\]"),
        ({"channels": 1}, "The images are 3 x 12 x 12; the patch is for images of 1 x 12 x 12"),
    ],
)
def test_recipes_that_cannot_be(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        trained(tmp_path, **more)


def test_models_that_cannot_share_a_patch(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="images of different sizes"):
        train_patch([model(), dataclasses.replace(model(1), input_shape=(3, 9, 9))], data(24), recipe(), tmp_path)
    with pytest.raises(BadInput, match="have different classes"):
        train_patch([model(), dataclasses.replace(model(1), classes=("a",))], data(24), recipe(), tmp_path)


def test_images_of_another_size_than_the_models_are_refused(tmp_path: Path) -> None:
    small = dataclasses.replace(data(24), input_shape=None, read=images(24)[:, :, :10].contiguous().__getitem__)
    with pytest.raises(BadInput, match="The images are 3 x 10 x 12; the patch is for images of 3 x 12 x 12"):
        train_patch([model()], small, recipe(), tmp_path)


def test_pixels_that_the_mask_hides_stay_as_they_were(tmp_path: Path) -> None:
    circle = mask_of("circle", 5)
    moved = trained(tmp_path, mask=circle, epochs=2).patch.pixels != 0.5
    assert not bool(moved[:, circle == 0].any()) and bool(moved[:, circle == 1].any())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_it_is_the_loop_that_people_write(tmp_path: Path, optimizer: str) -> None:
    """Torch's optimiser over tanh, pasting by slices: the same pixels, given the same places and orders."""
    from assay.attacks.patch import Room
    from assay.core.draws import Draws
    from assay.core.over_data import OverData
    from assay.training.dataset_view import FromData

    few = recipe(optimizer=optimizer, epochs=3, rate=0.1, published=True)
    done = train_patch([model()], data(24), few, tmp_path).patch.pixels
    over = OverData(None, FromData(data(24), 0, 24), None, 8, 0)  # type: ignore[arg-type]  # orders alone
    network, pixels = model().module.requires_grad_(False), images(24)
    variable = torch.zeros(3, 5, 5, requires_grad=True)
    torchs = torch.optim.SGD([variable], 0.1, 0.8) if optimizer == "sgd" else torch.optim.Adam([variable], 0.1)
    for look in range(9):
        batch = pixels[over.positions(look)]
        places = Room(5, 5, 12, 12, published=True).random(Draws.of(["patch"], 0).at(look), "place", 8)[0]
        assert int(places.max()) <= 12 - 5 - 2
        for n, (row, column) in enumerate(places.tolist()):
            batch[n, :, row : row + 5, column : column + 5] = (variable.tanh() + 1) / 2
        torchs.zero_grad()
        nn.functional.cross_entropy(network(batch), torch.ones(8, dtype=torch.int64)).backward()
        torchs.step()
    torch.testing.assert_close(done, (variable.detach().tanh() + 1) / 2, atol=1e-6, rtol=0)


def test_the_models_are_left_as_they_were(tmp_path: Path) -> None:
    classifier = model()
    classifier.module.train()
    train_patch([classifier], data(24), recipe(epochs=1), tmp_path)
    assert classifier.module.training and all(p.requires_grad for p in classifier.module.parameters())
    assert all(p.grad is None for p in classifier.module.parameters())


def test_transforms_are_trained_through(tmp_path: Path) -> None:
    from assay.patches import Transforms

    bent = Transforms(rotation=20, scale=(0.8, 1.2), brightness=0.1)
    done = trained(tmp_path, transforms=bent)
    assert measure(done.patch, model(), data(20, seed=9), Where(10), bent).success > 0.9
    with pytest.raises(BadInput, match="holds another training"):
        trained(tmp_path, transforms=Transforms(rotation=21))
