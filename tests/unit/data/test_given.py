from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from assay.core.errors import BadInput
from assay.data import Sample, load_data

X = torch.rand(9, 2, 5, 6, generator=torch.Generator().manual_seed(3))
Y = torch.arange(9) % 4


def twice_as_bright(batch: list[Any]) -> Any:
    return torch.stack([image for image, _ in batch]) / 2, torch.tensor([label for _, label in batch])


def plainly(batch: list[Any]) -> Any:
    return torch.stack([image for image, _ in batch]), torch.tensor([int(label) for _, label in batch])


@pytest.mark.parametrize(
    "given",
    [
        (X, Y),
        [X, Y],
        (X.numpy(), Y.numpy()),
        (X.numpy()[::-1].copy()[::-1], list(Y)),
        (list(X), Y.tolist()),
        {"image": X, "label": Y},
        list(zip(X, Y.tolist(), strict=True)),
        [{"img": image, "target": label} for image, label in zip(X, Y, strict=True)],
        TensorDataset(X, Y),
        StackDataset(image=X, label=Y),  # type: ignore[arg-type]
        DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True),
        DataLoader(TensorDataset(X, Y), batch_size=4, drop_last=True, collate_fn=plainly),
    ],
)
def test_the_same_images_and_labels_in_any_form(given: Any) -> None:
    data = load_data(given)
    assert data.labels == tuple(Y.tolist())
    for position, sample in enumerate(data.load(range(9))):
        assert isinstance(sample, Sample)
        assert torch.equal(sample.image, X[position])


def test_a_loader_says_what_of_it_does_not_count() -> None:
    shuffled = load_data(DataLoader(TensorDataset(X, Y), batch_size=2, shuffle=True))
    assert any("shuffles: that is ignored" in note for note in shuffled.notes)
    assert shuffled.ids == load_data(TensorDataset(X, Y)).ids
    some = load_data(DataLoader(TensorDataset(X, Y), sampler=SubsetRandomSampler([7, 2])))
    assert some.labels == (2, 3)
    assert any("takes 2 of the samples" in note for note in some.notes)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(zip(X, Y, strict=True))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler([1.0] * 9, 4)), "by WeightedRandomSampler"),
        (DataLoader(TensorDataset(X, Y), collate_fn=twice_as_bright), r"collate_fn \(twice_as_bright\) makes other"),
        (DataLoader(Stream()), "Stream is an IterableDataset"),
        ((one for one in zip(X, Y, strict=True)), "generator can be read only once"),
        (X, "images without labels"),
        ((X, Y[:4]), "9 images and 4 labels"),
        ((X[:, 0], Y), r"shape \[9, 5, 6\].*images\[:, None\]"),
        ((X, torch.eye(4)[Y]), r"labels.argmax\(1\)"),
        ({"train": TensorDataset(X, Y), "val": TensorDataset(X, Y)}, r"several data sets.*data\['train', 'val'\]"),
        ({"a": X, "b": Y}, "one of images and one of labels"),
        ([{"photo": X[0], "label": 1}], "no key 'image', but the keys photo, label"),
        ([(X, Y)], "whole batches"),
        (TensorDataset(X, Y.float()), r"Give whole numbers: 0, or labels.long\(\)"),
        ([(X[0], "cat")], "a list `classes`"),
        (7, "int is no data set"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_the_fix(given: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_data(given).load([0])


class Counting(Dataset[Any]):
    """Counts how often an item is read."""

    def __init__(self, count: int, keep: Callable[[list[int]], Any] | None = None, name: str = "targets") -> None:
        self.own = [(5 * i) % 7 for i in range(count)]
        self.read = 0
        if keep is not None:
            setattr(self, name, keep(self.own))

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, position: int) -> Any:
        self.read += 1
        return torch.full((1, 3, 3), self.own[position] / 10), self.own[position]


@pytest.mark.parametrize(
    ("name", "keep"),
    [
        ("targets", list),
        ("labels", torch.tensor),
        ("_labels", np.array),
        ("samples", lambda own: [(f"{i}.png", label) for i, label in enumerate(own)]),
        ("imgs", lambda own: [(f"{i}.png", label) for i, label in enumerate(own)]),
        ("targets", lambda own: torch.tensor(own)[:, None]),
    ],
)
def test_labels_of_parts_are_known_without_reading_items(name: str, keep: Any) -> None:
    first, second = Counting(2000, keep, name), Counting(1000, keep, name)
    whole = ConcatDataset([Subset(first, range(1999, 0, -1)), ConcatDataset([second, second])])
    part, _ = random_split(whole, [2500, len(whole) - 2500], torch.Generator().manual_seed(0))
    data = load_data(part, sample=70)
    assert {data.labels.count(label) for label in range(7)} <= {9, 10, 11}
    assert first.read + second.read < 40
    for sample in data.load(range(70)):
        assert isinstance(sample, Sample)
        assert float(sample.image[0, 0, 0]) == pytest.approx(sample.label / 10)


def test_unknown_labels_are_read_for_the_chosen_alone() -> None:
    dataset = Counting(3000)
    assert load_data(dataset, limit=5).labels == (0, 5, 3, 1, 6)
    assert load_data(dataset, ids=["python:Counting/02999"]).labels == (dataset.own[-1],)
    assert dataset.read < 40
    load_data(dataset, sample=7)
    assert dataset.read > 3000, "a draw by class needs the labels of all"


class Columns(list[Any]):
    """Looks like a data set of columns whose items are mappings."""

    column_names = ("image", "label")

    class Feature:
        names = ("ant", "bee")

    features: ClassVar = {"image": None, "label": Feature()}

    def __getitem__(self, key: Any) -> Any:
        return [one["label"] for one in self] if key == "label" else super().__getitem__(key)


def test_a_data_set_of_columns_knows_its_labels_and_their_names() -> None:
    data = load_data(Columns({"image": X[i], "label": i % 2} for i in range(4)))
    assert data.labels == (0, 1, 0, 1)
    assert data.classes == ("ant", "bee")


class Reordered(Counting):
    """Keeps the labels in another order than its items."""

    def __getitem__(self, position: int) -> Any:
        return super().__getitem__(len(self) - 1 - position)


@pytest.mark.parametrize("count", [20, 400])
def test_kept_labels_in_another_order_than_the_items_are_not_used(count: int) -> None:
    dataset = Reordered(count, list)
    for given, own in ((dataset, dataset.own[::-1]), (Subset(dataset, [3, 1]), [dataset.own[-4], dataset.own[-2]])):
        data = load_data(given)
        assert data.labels == tuple(own)
        assert any("labels were read from the items" in note for note in data.notes)


def test_a_single_wrong_label_is_found_when_its_image_is_read() -> None:
    dataset = Counting(500, list)
    dataset.targets[123] = 6 - dataset.targets[123] or 1  # type: ignore[attr-defined]
    data = load_data(dataset)
    with pytest.raises(BadInput, match="Item 123 of Counting has label"):
        data.load(range(500))


class OneHot(Counting):
    """Items whose labels are rows of zeros with a one."""

    def __getitem__(self, position: int) -> Any:
        image, label = super().__getitem__(position)
        return image, torch.eye(7)[label]


def test_labels_that_cannot_be_compared_are_said_to_be_unchecked() -> None:
    data = load_data(Subset(OneHot(6, list), [0, 1]))
    assert data.labels == (0, 5)
    assert any("could not be checked" in note for note in data.notes)


class Failing(Counting):
    def __getitem__(self, position: int) -> Any:
        if position == 3:
            raise KeyError("no such frame")
        return super().__getitem__(position)


def test_an_item_that_raises_is_one_error_and_no_traceback() -> None:
    loaded = load_data(Failing(5, list)).load([2, 3])
    assert isinstance(loaded[0], Sample)
    assert "KeyError: 'no such frame'" in loaded[1].error  # type: ignore[union-attr]
