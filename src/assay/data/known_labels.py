"""The labels that a data set knows without reading its items, checked against some of the items."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from assay.core.errors import BadInput
from assay.data.dataset import Labels, PictureError
from assay.data.labels import SEVERAL_LABELS

PROBES = 12
"""How many items are read to see whether the labels that a data set keeps are those of its items."""

LABEL_KEYS = ("label", "labels", "target", "targets", "class", "y", "fine_label")
_ATTRIBUTES = ("targets", "labels", "_labels")
_PAIRS = ("samples", "imgs", "_samples")


class KnowsLabels(Protocol):
    """A reader of items that can tell the label of each."""

    @property
    def dataset(self) -> Any:
        """The data set."""

    @property
    def name(self) -> str:
        """What it is called."""

    def label(self, position: int) -> int:
        """Return the label of the item at `position`. Raises `BadInput` where it is no class number."""


@dataclasses.dataclass(frozen=True)
class ItemLabels:
    """Labels that the items alone know: each is read when it is first asked for, and kept."""

    read: Callable[[int], int]
    known: dict[int, int] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def __getitem__(self, position: int, /) -> int:
        """Return the label of the item at `position`."""
        if position not in self.known:
            self.known[position] = self.read(position)
        return self.known[position]


def labels_of(items: KnowsLabels, count: int) -> tuple[Labels, tuple[str, ...]]:
    """Return the labels of `count` items, and what the user should know about them.

    Labels that the data set keeps beside its items are compared with `PROBES` of the items: the first, the last, and
    others of as many classes as possible. Where they differ, labels come from the items. Raises `BadInput` where an
    item has another label each time it is read.
    """
    known = known_labels(items.dataset, count)
    if known is None:
        return ItemLabels(items.label), ()
    for position in probed(known):
        try:
            own = items.label(position)
        except PictureError:
            continue
        except BadInput:
            told = (
                f"The items of {items.name} carry no class numbers, so the labels that it keeps could not be checked."
            )
            return known, (told,)
        if own != known[position]:
            check_same_label(items.name, position, own, items.label(position))
            told = f"{items.name} says that item {position} has label {known[position]}, the item itself says {own}"
            return ItemLabels(items.label), (f"{told}: labels were read from the items.",)
    return known, ()


def check_same_label(name: str, position: int, first: int, second: int) -> None:
    """Raise `BadInput` where an item has two labels."""
    if first != second:
        raise BadInput(
            f"Item {position} of {name} has label {first} in one place or reading and {second} in another; expected "
            "one label per item. Let the data set return the same label each time, and the one that it keeps in "
            "`targets` or `labels`."
        )


def probed(labels: Sequence[int]) -> list[int]:
    """Return which items to compare: first, last, and some drawn so that they have different labels."""
    count = len(labels)
    members: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        members[label].append(position)
    drawn = sorted(members.values(), key=lambda own: _hash(own[0]))
    turns = [own[_hash(turn) % len(own)] for turn in range(PROBES) for own in drawn[:PROBES]]
    chosen = dict.fromkeys([0, count - 1, *turns])
    return list(chosen)[: min(PROBES, count)]


def _hash(number: int) -> int:
    return int.from_bytes(hashlib.blake2b(str(number).encode(), digest_size=8).digest(), "big")


def known_labels(dataset: Any, count: int) -> tuple[int, ...] | None:
    """Return the labels that `dataset` keeps, found without reading an item; None where it keeps none.

    Subsets and concatenations have those of the data sets that they are made of.
    """
    # a transform of the targets shows only in the items
    if getattr(dataset, "target_transform", None) is not None:
        return None
    for kept in _kept(dataset):
        labels = _class_numbers(kept)
        if labels is not None and len(labels) == count:
            return labels
    if isinstance(dataset, Subset):
        whole = known_labels(dataset.dataset, _length(dataset.dataset))
        # a position counted from the end is one too
        return None if whole is None else tuple(whole[int(at)] for at in dataset.indices)
    if isinstance(dataset, ConcatDataset):
        parts = [known_labels(part, _length(part)) for part in dataset.datasets]
        return None if None in parts else tuple(label for part in parts for label in part or ())
    return None


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError:
        return -1


def _kept(dataset: Any) -> Any:
    """Yield whatever may be the labels of `dataset`."""
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) > 1:
        yield dataset.tensors[1]
    for name in _ATTRIBUTES:
        yield getattr(dataset, name, None)
    for name in _PAIRS:
        pairs = getattr(dataset, name, None)
        if isinstance(pairs, list | tuple) and all(isinstance(one, list | tuple) and len(one) == 2 for one in pairs):
            yield [label for _, label in pairs]
    yield _column(dataset)


def _column(dataset: Any) -> Any:
    """Return the label column of a data set of columns, as Hugging Face's: reading it decodes no picture."""
    columns = getattr(dataset, "column_names", None)
    if not isinstance(columns, list | tuple):
        return None
    keys = [key for key in LABEL_KEYS if key in columns]
    if len(keys) != 1:
        return None
    # its own transform may want all columns; the items are read then
    with contextlib.suppress(Exception):
        plain = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
        return list(plain[keys[0]])
    return None


def _class_numbers(kept: Any) -> tuple[int, ...] | None:
    """Return labels as whole numbers from 0, or None where they are something else."""
    if isinstance(kept, Tensor):
        kept = kept.detach().cpu().numpy()
    if isinstance(kept, np.ndarray):
        flat = kept.reshape(-1) if kept.size == len(kept) else kept
        if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer) or (flat.size and flat.min() < 0):
            return None
        return tuple(flat.tolist())
    if not isinstance(kept, list | tuple):
        return None
    try:
        return tuple(class_number(value) for value in kept)
    except BadInput:
        return None


def class_number(value: Any, what: str = "A sample", classes: Sequence[str] = ()) -> int:
    """Return a label as a whole number from 0; a name is looked up in `classes`. Raises `BadInput` for others."""
    if isinstance(value, Tensor | np.ndarray | np.generic) and np.asarray(value).size == 1:
        value = value.item()
    if isinstance(value, str) and value in classes:
        return classes.index(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        told = f"{what} has the label {value!r}; expected a class number, counted from 0."
        raise BadInput(told + _fix(value, classes))
    return value


def _fix(value: Any, classes: Sequence[str]) -> str:
    if isinstance(value, float) and value.is_integer() and value >= 0:
        return f" Give whole numbers: {int(value)}, or labels.long()."
    if isinstance(value, str):
        told = f"; its names are {', '.join(map(str, classes[:5]))}" if classes else ""
        return f" Give the data set a list `classes`, in label order, with that name in it{told}."
    if isinstance(value, Tensor | np.ndarray) and np.asarray(value).ndim == 1:
        return (
            f" A one-hot label becomes one by label.argmax(). {SEVERAL_LABELS} Where items are whole batches, give the "
            "data set behind them."
        )
    if isinstance(value, list | tuple | set):
        return f" {SEVERAL_LABELS}"
    return ""
