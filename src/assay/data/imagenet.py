"""`imagenet:DIR`: ImageNet's ILSVRC pictures in the forms in which people keep them.

One folder per class, named by synset (as the training archive unpacks), label number or class name; or the flat
validation folder with its ground truth beside it: Kaggle's `LOC_val_solution.csv`, or the development kit's
`ILSVRC2012_validation_ground_truth.txt` together with its `meta.mat`, whose own numbering it uses.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from assay.core.errors import BadInput
from assay.data.dataset import Source
from assay.data.folder import class_folders, existing, far_class_folders
from assay.data.folder_scan import pictures_under
from assay.data.labelled_files import LabelledFiles
from assay.data.labels import Vocabulary, check_labels
from assay.data.spec import take_apart
from assay.data.stores.folder import far_folder
from assay.data.stores.place import refuse_credentials
from assay.data.written_labels import READING, Written
from assay.files import is_far
from assay.models.classifier import Classifier
from assay.models.imagenet import imagenet_classes, imagenet_synsets

SOLUTION = "LOC_val_solution.csv"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
_FLAT = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)


def imagenet(name: str, model: Classifier | None) -> Source:
    """Return the pictures under the directory `name` with the model's labels (ImageNet's order without a model).

    `name` may have options behind a `?`.

    Raises `BadInput` when the form is none of those above, or when the model has other classes.
    """
    refuse_credentials(name)
    plain, options = take_apart(name, READING)
    if is_far(plain):
        return _far(plain, Written(f"imagenet:{plain}", options), vocabulary_of(model)).source(model)
    root, written = existing(plain, "imagenet:"), Written(f"imagenet:{plain}", options)
    vocabulary = vocabulary_of(model)
    if any(_FLAT.fullmatch(path.name) for path in root.iterdir()):
        return dataclasses.replace(_flat(root, vocabulary), written=written).source(model)
    split = next((root / part for part in ("val", "train") if (root / part).is_dir()), None)
    if split is not None:
        raise BadInput(f"{root} holds splits, not classes. Name one of them: imagenet:{split}")
    return dataclasses.replace(class_folders(root, vocabulary, written), renumberings=()).source(model)


def _far(url: str, written: Written, vocabulary: Vocabulary) -> LabelledFiles:
    far = far_folder(url, "imagenet:")
    if any(_FLAT.fullmatch(file) for file in far.listing.loose):
        raise BadInput(
            f"{url} is a flat validation folder. In a store only class folders are read (DIR/n01440764/picture.jpg): "
            f"sort the pictures by class, or name them in a table beside a copy on this machine (table:FILE)."
        )
    split = next((part for part in ("val", "train") if part in far.listing.files_in), None)
    if split is not None:
        raise BadInput(f"{url} holds splits, not classes. Name one of them: imagenet:{url.rstrip('/')}/{split}")
    return dataclasses.replace(far_class_folders(far, vocabulary, written), renumberings=())


def vocabulary_of(model: Classifier | None) -> Vocabulary:
    """Return the class names and synsets of a model, ImageNet's without one. Raises `BadInput` for other classes."""
    if model is None or model.classes is None:
        return Vocabulary(imagenet_classes(), imagenet_synsets())
    if model.synsets is None and len(model.classes) != 1000:
        raise BadInput(
            f"The model has {len(model.classes)} classes without synsets; imagenet: needs the 1,000 of ImageNet. "
            "Use folder:DIR, with folders named by the model's classes."
        )
    return Vocabulary(model.classes, model.synsets or imagenet_synsets())


def _flat(root: Path, vocabulary: Vocabulary) -> LabelledFiles:
    files = tuple(file for file in pictures_under(root) if _FLAT.fullmatch(file))
    synset_of = _solution(root) or _ground_truth(root)
    if synset_of is None:
        raise BadInput(
            f"{root} is a flat validation folder without its ground truth. Put {SOLUTION} (from Kaggle), or "
            f"{TRUTH} together with {META} (both in the development kit's data folder), into it or beside it."
        )
    assert vocabulary.synsets is not None
    label_of = {synset: label for label, synset in enumerate(vocabulary.synsets)}
    labels = []
    for file in files:
        synset = synset_of.get(Path(file).stem)
        if synset not in label_of:
            why = "is not in the ground truth" if synset is None else f"is a {synset}, a class the model does not have"
            raise BadInput(f"{root / file} {why}. Remove the picture, or give the ground truth that belongs to it.")
        labels.append(label_of[synset])
    check_labels(labels, len(vocabulary.classes), str(root))
    return LabelledFiles(root, files, tuple(labels), vocabulary.classes)


def _beside(root: Path, name: str) -> Path | None:
    """Return the file `name` in the folder, beside it, or in an unpacked development kit beside it."""
    places = [root, root.parent, root.parent / "data", *root.parent.glob("ILSVRC2012_devkit*/data")]
    return next((place / name for place in places if (place / name).is_file()), None)


def _solution(root: Path) -> dict[str, str] | None:
    """Read Kaggle's file: image id, then the boxes in it, each beginning with its synset."""
    path = _beside(root, SOLUTION)
    if path is None:
        return None
    with path.open(newline="") as file:
        rows: Iterable[list[str]] = [row for row in csv.reader(file) if len(row) >= 2]
    return {row[0]: row[1].split()[0] for row in rows if row[1].startswith("n")}


def _ground_truth(root: Path) -> dict[str, str] | None:
    """Read the development kit's file: one number per line, in an order of its own that `meta.mat` explains."""
    path = _beside(root, TRUTH)
    if path is None:
        return None
    meta = _beside(root, META) or (path.parent / META)
    if not meta.is_file():
        raise BadInput(
            f"{path} numbers the classes in the development kit's order, which {META} explains. Put {META} from the "
            "same folder of the kit beside it."
        )
    synset_of = _synsets_by_kit_number(meta)
    numbers = path.read_text().split()
    lost = next((number for number in numbers if not number.isdecimal() or int(number) not in synset_of), None)
    if lost is not None:
        raise BadInput(f"{path} has the class number {lost!r}; expected 1 to 1000. Unpack the development kit anew.")
    return {f"ILSVRC2012_val_{i:08d}": synset_of[int(number)] for i, number in enumerate(numbers, 1)}


def _synsets_by_kit_number(path: Path) -> dict[int, str]:
    from scipy.io import loadmat

    try:
        rows = loadmat(str(path), squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if int(row["num_children"]) == 0}
    except Exception as error:
        raise BadInput(f"{path} is not the {META} of the ILSVRC2012 development kit: {error}") from error
