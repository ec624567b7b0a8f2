"""Any data set that is a Python object: torch data sets, loaders, pairs of arrays, lists and mappings of items."""

from __future__ import annotations

from typing import Any

from PIL import Image

from assay.data.dataset import Source
from assay.data.items import Items, LabelledItems, fixed_draws, image_and_label
from assay.data.known_labels import LABEL_KEYS, labels_of
from assay.data.python_objects import Given
from assay.models.classifier import Classifier

FIXED = (
    "Random transforms are fixed (allow_random_data): one draw per sample, by seed {seed} and the sample's position. "
    "Numbers are about these draws."
)


def torch_dataset(given: Given, model: Classifier | None, seed: int | None = None) -> Source:
    """Return a data set's items as a source; ids are `python:NAME/POSITION`.

    Images may be tensors, arrays `[C, H, W]` or Pillow images; the latter are resized and cropped as the model's
    weights want. Labels come from what the data set keeps (`targets`, `labels`, `samples`, …), compared with some of
    its items, else from the items. A `seed` fixes what items draw at random.
    """
    count = len(given.dataset)
    channels = (model.input_shape[0] if model.input_shape else model.channels) if model else None
    classes = _classes(given.dataset)
    items = Items(given.dataset, given.name, channels or 3, model.preprocess if model else None, classes or (), seed)
    labels, notes = labels_of(items, count)
    reader = LabelledItems(items, labels)
    width = max(5, len(str(count - 1)))
    return Source(
        ids=tuple(f"python:{given.name}/{i:0{width}d}" for i in range(count)),
        labels=labels,
        classes=classes,
        input_shape=None,
        read=reader,
        content=reader.content,
        notes=(*given.notes, *notes, *(() if seed is None else (FIXED.format(seed=seed),))),
    )


def holds_pictures(given: Given) -> bool:
    """Whether a data set's first item is a Pillow image, which becomes the image that a model takes."""
    try:
        with fixed_draws(0, given.name):
            image = image_and_label(given.dataset[0], "item")[0]
    except Exception:
        # reading the data says what is wrong with them
        return False
    return isinstance(image, Image.Image)


def _classes(dataset: Any) -> tuple[str, ...] | None:
    """Return the names of the labels, where the data set or its label column has them."""
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, list | tuple):
        return tuple(map(str, classes))
    features = getattr(dataset, "features", None)
    if not isinstance(features, dict):
        return None
    names = [getattr(features[key], "names", None) for key in LABEL_KEYS if key in features]
    return tuple(map(str, names[0])) if names and isinstance(names[0], list | tuple) else None
