from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from assay.core.errors import BadInput
from assay.data import Sample, Unreadable, load_data
from assay.models.classifier import Classifier, Preprocess

X = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


class Items(Dataset[Any]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


def test_tensors() -> None:
    data = load_data(TensorDataset(X, Y))
    assert data.ids[3] == "python:TensorDataset/00003"
    assert data.labels == (0, 1, 2, 0, 1, 2)
    assert data.source == "python:torch.utils.data.dataset.TensorDataset"
    assert data.input_shape == (1, 4, 4)
    (sample,) = data.load([3])
    assert isinstance(sample, Sample)
    assert torch.equal(sample.image, X[3])


def test_a_subset_has_its_own_labels() -> None:
    assert load_data(Subset(TensorDataset(X, Y), [2, 4])).labels == (2, 1)


def test_pillow_images_are_resized_as_the_model_wants() -> None:
    model = Classifier(nn.Flatten(), input_shape=(3, 8, 8), preprocess=Preprocess((8,), (8, 8)))
    data = load_data(Items((Image.new("L", (20, 10), 51), 1)), model=model)
    (sample,) = data.load([0])
    assert isinstance(sample, Sample)
    assert sample.image.shape == (3, 8, 8)


@pytest.mark.parametrize("image", [np.full((1, 2, 2), 255, np.uint8), torch.ones(1, 2, 2).double()])
def test_bytes_are_scaled_and_other_types_converted(image: Any) -> None:
    (sample,) = load_data(Items((image, np.int64(0)))).load([0])
    assert isinstance(sample, Sample)
    assert sample.image.dtype == torch.float32
    assert sample.image.unique().tolist() == [1.0]


def test_labels_come_from_the_dataset_where_it_knows_them() -> None:
    items = Items((X[0], 4), (X[1], 5))
    items.targets = torch.tensor([4, 5])  # type: ignore[attr-defined]
    items.classes = ["a", "b", "c", "d", "e", "f"]  # type: ignore[attr-defined]
    data = load_data(items)
    assert data.labels == (4, 5)
    assert data.classes == tuple("abcdef")
    items.items = ((X[0], 9), (X[1], 9))
    items.target_transform = lambda label: 9  # type: ignore[attr-defined]
    assert load_data(items).labels == (9, 9)


def test_the_fingerprint_follows_images_and_labels() -> None:
    before = load_data(TensorDataset(X, Y)).fingerprint
    assert load_data(TensorDataset(X.clone(), Y)).fingerprint == before
    assert load_data(TensorDataset(1 - X, Y)).fingerprint != before
    assert load_data(TensorDataset(X, 2 - Y)).fingerprint != before


def test_an_item_that_cannot_be_read_is_a_record() -> None:
    items = Items((X[0], 0), OSError("disk gone"))
    items.targets = [0, 1]  # type: ignore[attr-defined]
    first, second = load_data(items).load([0, 1])
    assert isinstance(first, Sample)
    assert isinstance(second, Unreadable)
    assert "disk gone" in second.error


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(X[0], 0)])


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (Stream(), "IterableDataset"),
        (Items(), "Items is empty"),
        (Items(X[0]), r"Item 0 of Items is Tensor; expected \(image, label\)"),
        (Items((X[0], 0.5)), r"label 0.5; expected a class number"),
        (Items((X[0], -1)), "label -1"),
        (Items((X[0], True)), "label True"),
        (Items((X[0], torch.tensor([1, 2]))), "expected a class number"),
        (Items(("picture.png", 0)), "image of type str"),
    ],
)
def test_what_is_no_labelled_image_is_refused(dataset: Dataset[Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_data(dataset).load([0])


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (X[0] * 255, r"pixels from .* to 2[0-9.]+; expected \[0, 1\]. Divide it by 255"),
        (X[0] * 4 - 2, "Leave normalisation to the model"),
        (torch.full((1, 4, 4), float("nan")), "16 pixels that are NaN or infinite"),
        (torch.full((1, 4, 4), float("inf")), "NaN or infinite"),
        (X[0, 0], r"shape \[4, 4\]; expected float32 \[C, H, W\]"),
        (torch.rand(3, 4, 4), r"shape \[3, 4, 4\]; expected \[1, 4, 4\]. Convert it to the right number of channels"),
        (torch.rand(1, 5, 4), r"shape \[1, 5, 4\]; expected \[1, 4, 4\]. Pass the model"),
    ],
)
def test_bad_images_are_named(image: torch.Tensor, says: str) -> None:
    with pytest.raises(BadInput, match=f"Sample 'python:Items/00001' (has|is) .*{says}"):
        load_data(Items((X[0], 0), (image, 1))).load([0, 1])


class Endless(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return X[0], 0


def test_a_dataset_without_a_length_is_refused() -> None:
    with pytest.raises(BadInput, match="Endless has no length"):
        load_data(Endless())


def test_when_nothing_can_be_read_there_is_no_shape() -> None:
    items = Items(OSError("gone"), OSError("gone"))
    items.targets = [0, 1]  # type: ignore[attr-defined]
    data = load_data(items)
    assert data.input_shape is None
    assert all(isinstance(sample, Unreadable) for sample in data.load([0, 1]))
