"""`load_data`: from the name of a data set to `Data`, by one visible table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset

from assay.core.errors import BadInput, did_you_mean
from assay.data.cifar10 import cifar10
from assay.data.folder import folder
from assay.data.imagenet import imagenet
from assay.data.labels import check_labels
from assay.data.mnist import mnist_source
from assay.data.sample import Data, PictureError
from assay.data.samples import samples
from assay.data.select import Selection, select
from assay.data.source import Selected, Source
from assay.data.torch_dataset import torch_dataset
from assay.models.classifier import Classifier

# what stands before the first `/` (our own sets) or `:` (the user's folders) -> (what stands after it, model) -> all
SETS: dict[str, Callable[[str, Classifier | None], Source]] = {
    "mnist": mnist_source,
    "samples": samples,
    "cifar10": cifar10,
}
FOLDERS: dict[str, Callable[[str, Classifier | None], Source]] = {"imagenet": imagenet, "folder": folder}

# the names that need no directory, for listings and for suggestions
NAMES = ("mnist/test", "mnist/train", "samples", "cifar10/test", "cifar10/train")


def load_data(  # shape: one keyword for each way to select, as in a study file
    source: str | Dataset[Any],
    *,
    model: Classifier | None = None,
    limit: int | None = None,
    sample: int | None = None,
    per_class: int | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    part: str | None = None,
) -> Data:
    """Return the data set named by `source`, or a torch `Dataset`, or the part of it that is selected.

    With a `model`, pictures are resized and cropped as its weights want, and labels are its labels. `ids` takes
    samples by name; `sample` draws so many in all, evenly over the classes; `per_class` so many of each; both under
    `seed`; `part` ("held-out N" or "rest N") takes one side of a split; `limit` then takes the first.
    No picture is read yet but one, to learn the shape where no model says it, and a few files of a folder, to note what
    is easily misread in them.

    Raises `BadInput` for an unknown name, an empty folder, labels or shapes that do not belong to the model, and
    `Unavailable` when the data cannot be fetched.
    """
    everything = _everything(source, model)
    selection = Selection(limit, sample, per_class, None if ids is None else tuple(ids), seed, part)
    positions, notes = select(everything.ids, everything.labels, selection)
    name = source if isinstance(source, str) else f"python:{type(source).__module__}.{type(source).__qualname__}"
    taken = tuple(everything.ids[at] for at in positions)
    labels = tuple(everything.labels[at] for at in positions)
    if model and model.classes:
        check_labels(labels, len(model.classes), name)
    return Data(
        source=name,
        fingerprint=_fingerprint(taken, labels, everything.content(positions)),
        ids=taken,
        labels=labels,
        classes=everything.classes,
        input_shape=_shape(name, everything, positions, model),
        read=Selected(everything.read, positions),
        notes=everything.notes + notes,
        about_pictures=everything.about_pictures,
        renumberings=everything.renumberings,
    )


def _everything(source: str | Dataset[Any], model: Classifier | None) -> Source:
    if not isinstance(source, str):
        return torch_dataset(source, model)
    scheme, colon, directory = source.partition(":")
    if colon and scheme in FOLDERS:
        return FOLDERS[scheme](directory, model)
    name, _, split = source.partition("/")
    if name in SETS and not (name == "samples" and split):
        return SETS[name](split, model)
    near = did_you_mean(source, NAMES) or did_you_mean(f"{scheme}:", [f"{name}:" for name in FOLDERS])
    raise BadInput(f"Unknown data {source!r}.{near} There are: {', '.join(NAMES)}, imagenet:DIR and folder:DIR.")


def _shape(
    name: str, source: Source, positions: Sequence[int], model: Classifier | None
) -> tuple[int, int, int] | None:
    """Return the shape of every image: the source's, the model's, or that of the first image that can be read."""
    wanted = model.input_shape if model else None
    if source.input_shape and wanted and source.input_shape != wanted:
        raise BadInput(
            f"{name} has images of {_by(source.input_shape)}, but the model {model.spec if model else ''} takes "
            f"{_by(wanted)}. Use data that belong to the model."
        )
    if source.input_shape or wanted:
        return source.input_shape or wanted
    for position in positions:
        try:
            image = source.read(position)
        except PictureError:
            continue
        if image.ndim == 3:
            channels, height, width = image.shape
            return channels, height, width
        break  # reading it as a sample says what is wrong
    return None


def _by(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))


def _fingerprint(ids: Sequence[str], labels: Sequence[int], content: str) -> str:
    digest = hashlib.blake2b(content.encode(), digest_size=16)
    for name, label in zip(ids, labels, strict=True):
        digest.update(f"{name}\x1f{label}\x1e".encode())
    return digest.hexdigest()
