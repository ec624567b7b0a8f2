"""Any map-style torch `Dataset` of (image, label) pairs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from assay.core.errors import BadInput
from assay.data.pictures import picture_tensor, to_eight_bits
from assay.data.sample import PictureError
from assay.data.source import Source
from assay.models.classifier import Classifier, Preprocess


def torch_dataset(dataset: Dataset[Any], model: Classifier | None) -> Source:
    """Return a dataset's items as a source; ids are `python:CLASS/POSITION`.

    Images may be tensors, arrays `[C, H, W]` or Pillow images; the latter are resized and cropped as the model's
    weights want. Labels come from the dataset's `targets` or `labels` where it has them, else from every item.
    """
    if isinstance(dataset, IterableDataset):
        raise BadInput(
            f"{type(dataset).__name__} is an IterableDataset, whose samples have no stable ids. Give a dataset with "
            "__len__ and __getitem__."
        )
    try:
        count = len(dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise BadInput(f"{type(dataset).__name__} has no length; give a dataset with __len__.") from error
    if count == 0:
        raise BadInput(f"{type(dataset).__name__} is empty; expected at least one (image, label) pair.")
    channels = (model.input_shape[0] if model.input_shape else model.channels) if model else None
    items = Items(dataset, channels or 3, model.preprocess if model else None)
    width = max(5, len(str(count - 1)))
    name = type(dataset).__name__
    classes = getattr(dataset, "classes", None)
    return Source(
        ids=tuple(f"python:{name}/{i:0{width}d}" for i in range(count)),
        labels=_labels(items, count),
        classes=tuple(map(str, classes)) if isinstance(classes, list | tuple) else None,
        input_shape=None,
        read=items,
        content=items.content,
    )


@dataclasses.dataclass(frozen=True)
class Items:
    """Reader of a dataset's items."""

    dataset: Dataset[Any]
    channels: int
    preprocess: Preprocess | None

    def item(self, position: int) -> tuple[Any, Any]:
        """Return the pair at `position` as the dataset gives it; raises `BadInput` when it is no pair."""
        item = self.dataset[position]
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise BadInput(
                f"Item {position} of {type(self.dataset).__name__} is {type(item).__name__}; expected (image, label)."
            )
        return item[0], item[1]

    def __call__(self, position: int) -> Tensor:
        """Return the image at `position`: float32 `[C, H, W]`."""
        try:
            image, _ = self.item(position)
            if isinstance(image, Image.Image):
                return picture_tensor(to_eight_bits(image, self.channels), self.preprocess)
        except OSError as error:
            raise PictureError(f"item {position}: {error}") from error
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(image)
        if not isinstance(image, Tensor):
            raise BadInput(
                f"Item {position} of {type(self.dataset).__name__} has an image of type {type(image).__name__}; "
                "expected a tensor, an array or a Pillow image."
            )
        return image.float() / 255 if image.dtype == torch.uint8 else image.to(torch.float32)

    def content(self, positions: Sequence[int]) -> str:
        """Return a digest of the first eight images at these positions: reading all could take hours."""
        digest = hashlib.blake2b(digest_size=16)
        for position in positions[:8]:
            try:
                digest.update(self(position).contiguous().numpy().tobytes())
            except PictureError:
                digest.update(b"unreadable")
        return digest.hexdigest()


def _labels(items: Items, count: int) -> tuple[int, ...]:
    # a transform of the targets shows only in the items
    transformed = getattr(items.dataset, "target_transform", None) is not None
    for name in () if transformed else ("targets", "labels"):
        known = getattr(items.dataset, name, None)
        if isinstance(known, list | tuple | Tensor | np.ndarray) and len(known) == count:
            return tuple(_label(value, position) for position, value in enumerate(known))
    return tuple(_label(items.item(position)[1], position) for position in range(count))


def _label(value: Any, position: int) -> int:
    if isinstance(value, Tensor | np.ndarray | np.generic) and np.asarray(value).size == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadInput(f"Item {position} has the label {value!r}; expected a class number, counted from 0.")
    return value
