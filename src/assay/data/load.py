"""`load_data`: from the name of a data set, or a data set itself, to `Data`, by one visible table."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from assay.core.errors import BadInput, did_you_mean
from assay.data.arrays import hdf5, npz
from assay.data.cifar10 import cifar10
from assay.data.corruption import corrupted, take_view
from assay.data.dataset import Data, PictureError, Selected, Source, check_layout
from assay.data.folder import folder
from assay.data.from_python import from_python, names_python, whole
from assay.data.imagenet import imagenet
from assay.data.imagenet_c import SCHEME, imagenet_c
from assay.data.imagenet_samples import samples
from assay.data.labels import check_labels
from assay.data.mnist import mnist_source
from assay.data.parquet_images import parquet_images
from assay.data.predicted import check_request, images_alone, loose_pictures, with_predictions, without_labels
from assay.data.python_objects import Given, given_data
from assay.data.selection import Selection, select
from assay.data.shards import tar_shards
from assay.data.table import table
from assay.data.torch_dataset import torch_dataset
from assay.models.classifier import Classifier

# what stands before the first `/` (our own sets) or `:` (the user's files) -> (what stands after it, model) -> all
SETS: dict[str, Callable[[str, Classifier | None], Source]] = {
    "mnist": mnist_source,
    "samples": samples,
    "cifar10": cifar10,
}
FILES: dict[str, Callable[[str, Classifier | None], Source]] = {
    "imagenet": imagenet,
    "imagenet-c": imagenet_c,
    "folder": folder,
    "table": table,
    "csv": table,
    "npz": npz,
    "hdf5": hdf5,
    "wds": tar_shards,
    "hf-data": parquet_images,
}

UNLABELLED: dict[str, Callable[[str, Classifier | None], Source]] = {
    "folder": loose_pictures,
    "table": functools.partial(table, labelled=False),
    "csv": functools.partial(table, labelled=False),
    "wds": functools.partial(tar_shards, labelled=False),
    "hf-data": functools.partial(parquet_images, labelled=False),
}

# the names that need no directory, for listings and for suggestions
NAMES = ("mnist/test", "mnist/train", "samples", "cifar10/test", "cifar10/train")
_FORMS = (
    "imagenet:DIR, imagenet-c:DIR, folder:DIR, wds:SHARDS, hf-data:DIR, table:FILE, npz:FILE, hdf5:FILE and "
    "my.py:dataset"
)


def load_data(  # shape: one keyword for each way to select, as in a study file
    source: Any,
    *,
    model: Classifier | None = None,
    limit: int | None = None,
    sample: int | None = None,
    per_class: int | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    part: str | None = None,
    allow_random_data: bool = False,
    labels: str | None = None,
) -> Data:
    """Return the data set named by `source`, or one given as an object, or the part of it that is selected.

    An object is a torch `Dataset`, a `DataLoader` (its data set is taken), `(images, labels)`, a list of (image, label)
    or of mappings, or `Data`. With a `model`, pictures are resized and cropped as its weights want, and labels are its
    labels. `ids` takes samples by name; `sample` draws so many in all, evenly over the classes; `per_class` so many of
    each; both under `seed`; `part` ("held-out N" or "rest N") takes one side of a split; `limit` then takes the first.
    `allow_random_data` fixes what the samples of an object, or of the user's code, draw at random: one draw per sample,
    by `seed`. `labels="predicted"` takes the model's own answers as labels, of pictures that need none then. Of files
    one is read, to learn the shape where no model says it, and a few of a folder, to note what is easily misread in
    them; of an object some items, to compare their labels with those that it keeps. `SOURCE|fog:severity=3` names the
    data of SOURCE with every image corrupted.

    Raises `BadInput` for an unknown name, an empty folder, labels or shapes that do not belong to the model, and
    `Unavailable` when the data cannot be fetched.
    """
    plain, corruption = take_view(source) if isinstance(source, str) else ("", None)
    if corruption is not None and not plain.startswith(SCHEME):
        settings: dict[str, Any] = {
            "limit": limit, "sample": sample, "per_class": per_class, "ids": ids, "seed": seed, "part": part,
            "allow_random_data": allow_random_data, "labels": labels,
        }  # fmt: skip
        return corrupted(load_data(plain, model=model, **settings), corruption)
    predicted = check_request(labels, model)
    name, everything = _everything(source, model, seed if allow_random_data else None, labelled=not predicted)
    selection = Selection(limit, sample, per_class, None if ids is None else tuple(ids), seed, part)
    positions, notes = select(everything.ids, everything.labels, selection)
    taken = tuple(everything.ids[at] for at in positions)
    own = tuple(everything.labels[at] for at in positions)
    targets = everything.targets
    if model and model.classes:
        check_labels(own, len(model.classes), name)
    data = Data(
        source=name,
        fingerprint=_fingerprint(taken, own, everything.content(positions)),
        ids=taken,
        labels=own,
        classes=everything.classes,
        input_shape=_shape(name, everything, positions, model),
        read=Selected(everything.read, positions),
        notes=everything.notes + notes,
        targets=None if targets is None else tuple(targets[at] for at in positions),
        about_pictures=everything.about_pictures,
        renumberings=everything.renumberings,
    )
    return with_predictions(data, model) if predicted and model else data


def _everything(source: Any, model: Classifier | None, fixed: int | None, *, labelled: bool) -> tuple[str, Source]:
    """Return what the source is called, and all its samples; `fixed` is the seed of their random draws, if any."""
    if not labelled:
        return _unlabelled(source, model, fixed)
    if isinstance(source, Data):
        return source.source, whole(source, fixed)
    if not isinstance(source, str):
        given: Given = given_data(source)
        return given.source, torch_dataset(given, model, fixed)
    scheme, colon, rest = source.partition(":")
    if colon and scheme in FILES:
        return source, FILES[scheme](rest, model)
    if names_python(source):
        return source, from_python(source, model, fixed)
    name, _, split = source.partition("/")
    if name in SETS and not (name == "samples" and split):
        return source, SETS[name](split, model)
    near = did_you_mean(source, NAMES) or did_you_mean(f"{scheme}:", [f"{name}:" for name in FILES])
    raise BadInput(f"Unknown data {source!r}.{near} There are: {', '.join(NAMES)}, {_FORMS}.")


def _unlabelled(source: Any, model: Classifier | None, fixed: int | None) -> tuple[str, Source]:
    scheme, _, rest = source.partition(":") if isinstance(source, str) else ("", "", "")
    if scheme in UNLABELLED:
        return source, UNLABELLED[scheme](rest, model)
    name, everything = _everything(images_alone(source), model, fixed, labelled=True)
    return name, without_labels(everything)


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
        check_layout(image, source.ids[position])
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
