"""Data without labels: the model's own answers to the images are taken as their labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from assay.core.errors import BadInput, did_you_mean
from assay.core.signals import apart
from assay.data.dataset import Data, Sample, Source
from assay.data.folder import existing
from assay.data.folder_scan import all_pictures, pictures_under
from assay.data.labelled_files import LabelledFiles
from assay.data.stores.folder import far_folder
from assay.data.stores.place import refuse_credentials
from assay.files import is_far
from assay.models.classifier import Classifier
from assay.models.remote.place import asking

PREDICTED = "predicted"
NOTE = (
    "Labels are predicted by the model: its own answers to the images as they are. Accuracies say how often it keeps "
    "them, not how often it is right, and there is no clean accuracy."
)
_ROWS = 32


def check_request(labels: str | None, model: Classifier | None) -> bool:
    """Whether labels are to be predicted. Raises `BadInput` for another word, and where no model can predict them."""
    if labels is None:
        return False
    if labels != PREDICTED:
        raise BadInput(f"labels is {labels!r}; expected 'predicted', or nothing.{did_you_mean(labels, [PREDICTED])}")
    if model is None:
        raise BadInput("labels='predicted' are the answers of a model; pass it: load_data(…, model=model).")
    return True


def loose_pictures(name: str, model: Classifier | None) -> Source:
    """Return every picture under the directory `name`, whatever folder it lies in; all labels are 0."""
    refuse_credentials(name)
    if is_far(name):
        far = far_folder(name, "folder:")
        listed = tuple(all_pictures(far.listing))
        if not listed:
            raise BadInput(f"{far.place.url} has no pictures.")
        held = far.files(listed)
        found = LabelledFiles(far.place.url, listed, (0,) * len(listed), None, held.named_by(), far=held)
        return found.source(model)
    root: Path = existing(name, "folder:")
    files = tuple(pictures_under(root))
    if not files:
        raise BadInput(f"{root} has no pictures.")
    return LabelledFiles(root, files, (0,) * len(files), None).source(model)


def without_labels(source: Source) -> Source:
    """Return a source of which no label is used, so that draws are not by class."""
    return dataclasses.replace(source, labels=(0,) * len(source.ids), classes=None)


def images_alone(data: object) -> object:
    """Return a stack of images as a pair with labels that mean nothing, and anything else as it is."""
    return (data, np.zeros(len(data), np.int64)) if isinstance(data, Tensor | np.ndarray) else data


def with_predictions(data: Data, model: Classifier) -> Data:
    """Return `data` with the classes that `model` gives its images as they are; 0 for those that cannot be read.

    Raises `ModelError` for a model that is no classifier.
    """
    labels = [0] * len(data)
    with model.held(), asking("labels"):
        oracle = model.oracle(_ROWS)
        for first in range(0, len(data), _ROWS):
            loaded = enumerate(data.load(range(first, min(len(data), first + _ROWS))), first)
            readable = {at: one.image for at, one in loaded if isinstance(one, Sample)}
            if not readable:
                continue
            seen = oracle.answers(torch.stack(list(readable.values())).to(model.device))
            answers = apart(seen, model.rejects).logits.argmax(1)
            for at, label in zip(readable, answers.tolist(), strict=True):
                labels[at] = label
    return dataclasses.replace(
        data, labels=tuple(labels), classes=model.classes, notes=(*data.notes, NOTE), predicted=True
    )
