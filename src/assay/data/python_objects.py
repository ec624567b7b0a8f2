"""What users hand over as data, as one indexable data set: loaders, pairs of arrays, mappings, lists, data sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)
from torch.utils.data.dataloader import default_collate, default_convert

from assay.core.errors import BadInput
from assay.data.items import IMAGE_KEYS, image_and_label
from assay.data.known_labels import LABEL_KEYS
from assay.data.labels import SEVERAL_LABELS


@dataclasses.dataclass(frozen=True)
class Given:
    """An object with `__len__` and `__getitem__`, the name its ids carry, the name of its source, and notes."""

    dataset: Any
    name: str
    source: str
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Images and labels that stand side by side, as a data set of pairs; the labels are known at once."""

    images: Any
    targets: Any

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[Any, Any]:
        """Return image and label at `position`."""
        return self.images[position], self.targets[position]


def given_data(data: Any) -> Given:
    """Return what the user handed over as an indexable data set of at least one item.

    Raises `BadInput` for what has no order or no length (generators, iterable data sets), loaders that change their
    batches or choose samples in a way of their own, images without labels, and empty data.
    """
    if isinstance(data, DataLoader):
        return _of_loader(data)
    if isinstance(data, Mapping):
        data = _side_by_side(data)
    if isinstance(data, tuple | list) and len(data) == 2 and _are_columns(*data):
        return _of_arrays(*data)
    _refuse(data)
    kind = type(data)
    try:
        count = len(data)
    except TypeError as error:
        raise BadInput(f"{kind.__name__} has no length; give a dataset with __len__.") from error
    if count == 0:
        raise BadInput(f"{kind.__name__} is empty; expected at least one (image, label) pair.")
    return Given(data, kind.__name__, f"python:{kind.__module__}.{kind.__qualname__}")


def _refuse(data: Any) -> None:
    name = type(data).__name__
    if isinstance(data, IterableDataset):
        raise BadInput(
            f"{name} is an IterableDataset, whose samples have no stable ids. Give a dataset with "
            "__len__ and __getitem__, or list(dataset) where it fits into memory."
        )
    if isinstance(data, Tensor | np.ndarray):
        raise BadInput(f"{name} of shape {list(data.shape)} holds images without labels; give both: (images, labels).")
    if isinstance(data, Iterator) or (hasattr(data, "__iter__") and not hasattr(data, "__getitem__")):
        raise BadInput(
            f"{name} can be read only once and in its own order, so its samples have no stable ids. Give a list of "
            "(image, label) pairs, such as list(data), or a dataset with __len__ and __getitem__."
        )
    if not hasattr(data, "__getitem__"):
        raise BadInput(
            f"{name} is no data set. Give a source such as 'mnist/test', a dataset with __len__ and __getitem__, a "
            "DataLoader, or (images, labels)."
        )


def _are_columns(images: Any, labels: Any) -> bool:
    """Whether two values are images and labels side by side, rather than two pairs."""
    if isinstance(images, Tensor | np.ndarray):
        return isinstance(labels, Tensor | np.ndarray | list | tuple)
    lists = isinstance(images, list | tuple) and isinstance(labels, list | tuple | Tensor | np.ndarray)
    # of two pairs (image, label) the first elements are images
    return lists and len(labels) > 0 and np.ndim(labels[0]) == 0 and not np.isscalar(images[0] if images else 0)


def _side_by_side(data: Mapping[Any, Any]) -> tuple[Any, Any]:
    """Return the images and labels of a mapping of arrays."""
    if any(hasattr(one, "column_names") or isinstance(one, torch.utils.data.Dataset) for one in data.values()):
        names = ", ".join(map(repr, data))
        raise BadInput(f"{type(data).__name__} holds several data sets; give one of them: data[{names}].")
    images = [key for key in IMAGE_KEYS if key in data]
    labels = [key for key in LABEL_KEYS if key in data]
    if len(images) != 1 or len(labels) != 1:
        keys = ", ".join(map(str, data))
        raise BadInput(
            f"A mapping with the keys {keys} is no data set; expected one of images and one of labels, such as "
            "{'image': images, 'label': labels}, or {'source': 'mnist/test', 'limit': 100}."
        )
    return data[images[0]], data[labels[0]]


def _of_arrays(images: Any, labels: Any) -> Given:
    if len(images) != len(labels):
        raise BadInput(f"{len(images)} images and {len(labels)} labels; expected one label per image.")
    if len(images) == 0:
        raise BadInput("The arrays are empty; expected at least one image.")
    shape = list(getattr(images, "shape", ()))
    if shape and len(shape) != 4:
        fix = " Grey images get a channel by images[:, None]." if len(shape) == 3 else ""
        raise BadInput(f"The images have shape {shape}; expected [N, C, H, W].{fix}")
    labels = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise BadInput(
            f"The labels have shape {list(labels.shape)}; expected [N], a class number per image. One-hot labels "
            f"become such numbers by labels.argmax(1). {SEVERAL_LABELS}"
        )
    return Given(Arrays(images, labels), "arrays", "python:arrays")


def _of_loader(loader: DataLoader[Any]) -> Given:
    """Return the data set behind a loader, with what of the loader does not count."""
    positions, notes = _chosen(loader)
    dataset = loader.dataset if positions is None else Subset(loader.dataset, list(positions))
    inside = given_data(dataset)
    _check_collation(loader, inside.dataset)
    taken = f"Samples come from the data set of the DataLoader, {inside.name}"
    batches = "its batch size and workers do not count"
    return dataclasses.replace(inside, notes=(f"{taken}; {batches}.", *notes, *inside.notes))


def _chosen(loader: DataLoader[Any]) -> tuple[Sequence[int] | None, tuple[str, ...]]:
    """Return the positions that a loader's sampler is made of (None: all), and notes."""
    if isinstance(loader.dataset, IterableDataset):
        return None, ()
    sampler = loader.sampler
    usual = type(loader.batch_sampler) in (BatchSampler, type(None))
    notes = ["The last incomplete batch is taken too (drop_last)."] if loader.drop_last else []
    if usual and type(sampler) is SequentialSampler:
        return None, tuple(notes)
    if usual and type(sampler) is RandomSampler:
        notes.append("The DataLoader shuffles: that is ignored, samples are taken once each, in the data set's order.")
        return None, tuple(notes)
    if usual and type(sampler) is SubsetRandomSampler:
        positions = sorted(int(at) for at in sampler.indices)
        told = f"The DataLoader's sampler takes {len(positions)} of the samples: these, in the data set's order."
        return positions, (*notes, told)
    odd = sampler if usual else loader.batch_sampler
    raise BadInput(
        f"The DataLoader chooses its samples by {type(odd).__name__}, which cannot be repeated here. Give its data "
        "set, loader.dataset, or torch.utils.data.Subset(loader.dataset, positions)."
    )


def _check_collation(loader: DataLoader[Any], dataset: Any) -> None:
    """Raise `BadInput` where a loader's `collate_fn` changes images or labels: the items alone are read."""
    collate = loader.collate_fn
    if collate in (default_collate, default_convert):
        return
    name = getattr(collate, "__name__", type(collate).__name__)
    try:
        item, batch = dataset[0], collate([dataset[0]])
        pairs = zip(image_and_label(item, "item"), image_and_label(batch, "batch"), strict=True)
        same = all(np.array_equal(np.asarray(one), np.asarray(many[0])) for one, many in pairs)
    except Exception:
        same = False
    if not same:
        raise BadInput(
            f"The DataLoader's collate_fn ({name}) makes other images or labels than the items of "
            f"{type(dataset).__name__} have, and samples are read one by one. Do its work in the data set's "
            "__getitem__ or transform, and give that."
        )
