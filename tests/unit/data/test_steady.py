from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

import assay
from assay.core.errors import BadInput
from assay.data import check_steady, load_data, with_fixed_draws

X = torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(1))


class Changed(Dataset[Any]):
    """Images after a change that is made at each reading."""

    def __init__(self, transform: Callable[[Tensor], Tensor], label: Callable[[int], int] = lambda at: at % 3) -> None:
        self.transform = transform
        self.label = label

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, position: int) -> Any:
        return self.transform(X[position]), self.label(position)


class RandomShift:
    """A change that is rare: one reading in five differs."""

    def __call__(self, image: Tensor) -> Tensor:
        return image.roll(1, -1) if random.random() < 0.2 else image


def of_the_system(image: Tensor) -> Tensor:
    return image * (os.urandom(1)[0] / 255)


GLOBAL = [
    lambda image: image.roll(random.randint(0, 3), -1),
    lambda image: image * np.random.rand(),
    lambda image: (image + 0.01 * torch.rand(image.shape)).clamp(0, 1),
    RandomShift(),
]


@pytest.mark.parametrize("transform", GLOBAL)
@pytest.mark.parametrize("part", [lambda d: d, lambda d: Subset(d, [4, 2, 9]), lambda d: ConcatDataset([d, d])])
def test_random_data_are_refused_and_can_be_fixed(transform: Any, part: Any) -> None:
    random.seed(5)
    before = random.getstate()
    with pytest.raises(BadInput, match=r"another image each time it is read.*allow_random_data=True"):
        check_steady(load_data(part(Changed(transform))))
    given = Changed(transform)
    once, again = (load_data(part(given), allow_random_data=True) for _ in range(2))
    check_steady(once, allowed=True)
    assert once.fingerprint == again.fingerprint
    assert torch.equal(once.read(2), again.read(2))
    assert any("fixed (allow_random_data)" in note for note in once.notes)
    random.setstate(before)
    check_steady(once, allowed=True)
    assert random.getstate() == before, "the user's own draws go on as they would have"


def test_another_seed_is_another_draw() -> None:
    draws = {load_data(Changed(GLOBAL[1]), allow_random_data=True, seed=seed).fingerprint for seed in range(3)}
    assert len(draws) == 3


def test_the_random_transform_is_named() -> None:
    with pytest.raises(BadInput, match="Switch off RandomShift in its transform"):
        check_steady(load_data(Subset(Changed(RandomShift()), range(12))))


def test_what_seeding_cannot_fix_is_refused_all_the_same() -> None:
    own = np.random.default_rng(0)
    for transform in (of_the_system, lambda image: image * own.random()):
        data = load_data(Changed(transform), allow_random_data=True)
        with pytest.raises(BadInput, match="a generator of its own"):
            check_steady(data, allowed=True)


def test_labels_that_change_are_refused() -> None:
    with pytest.raises(BadInput, match="expected one label per item"):
        check_steady(load_data(Changed(lambda image: image, lambda at: random.randint(0, 9))))


def test_draws_that_change_nothing_and_pixels_that_are_no_numbers_pass() -> None:
    check_steady(load_data(Changed(lambda image: image + 0 * random.random())))
    check_steady(load_data(Changed(lambda image: image / 0 * 0)))


def test_loaded_data_can_be_fixed_too() -> None:
    data = load_data((X, torch.arange(12) % 3))
    noisy = assay.Data("own", "f", data.ids, data.labels, None, None, lambda at: X[at] * random.random())
    with pytest.raises(BadInput, match="another image"):
        check_steady(noisy)
    check_steady(with_fixed_draws(noisy, 0), allowed=True)


def test_an_evaluation_of_random_data_is_refused_or_fixed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 3))
    noisy = Changed(lambda image: image.roll(random.randint(0, 5), -1))
    settings: dict[str, Any] = {"attacks": "pgd", "threat": assay.Linf("2/255")}
    with pytest.raises(BadInput, match="another image"):
        assay.evaluate(net, noisy, **settings, audit="off", doctor=False)
    random.seed(1)
    first = assay.evaluate(
        net, noisy, out=tmp_path / "a", allow_random_data=True, **settings, audit="off", doctor=False
    )
    random.seed(2)
    second = assay.evaluate(
        net, noisy, out=tmp_path / "b", allow_random_data=True, **settings, audit="off", doctor=False
    )
    assert first.records(["image_digest", "status"]) == second.records(["image_digest", "status"])
    assert any("fixed (allow_random_data)" in one for one in first.run.manifest["warnings"])


def test_several_models_are_a_study_of_several() -> None:
    nets = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 3)) for _ in range(2)]
    run = assay.evaluate(nets, (X, torch.arange(12) % 3), "fgsm", assay.Linf("2/255"), audit="off", doctor=False)
    assert len({one.model for one in run.results()}) == 2
    for net, result in zip(nets, run.results(), strict=True):
        right = (net(X).argmax(1) == torch.arange(12) % 3).double().mean()
        assert result.clean_accuracy == pytest.approx(float(right))
