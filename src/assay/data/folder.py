"""Folders of pictures, one per class; folders that are splits or roots one level too high are named."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.core.errors import BadInput, did_you_mean
from assay.data.class_orders import Folders, numbered, renumberings
from assay.data.dataset import Source
from assay.data.folder_scan import Listing, scan
from assay.data.labelled_files import LabelledFiles
from assay.data.labels import Labelling, Vocabulary, label_folders
from assay.data.pictures import USUAL
from assay.data.spec import take_apart
from assay.data.stores.folder import FarFolder, far_folder
from assay.data.stores.place import refuse_credentials
from assay.data.written_labels import READING, Written
from assay.files import is_far
from assay.models.classifier import Classifier

_SPLIT = re.compile(
    r"(.*[_\- ])?(train|training|trainval|trn|val|valid|validation|test|testing|tst|dev|eval|evaluation|hold-?out)"
    r"([_\- ]?(set|data|images|imgs|split|\d+))?",
    re.IGNORECASE,
)
_FOR_TESTS = ("test", "val", "valid", "validation", "testing", "eval", "dev")


def check_nesting(root: str | Path, used: Sequence[str], pictures_in: Mapping[str, int], name: str) -> tuple[str, ...]:
    """Return notes about class folders that may be something else.

    `used` are the folders with pictures, `pictures_in` counts those in each folder itself. `name` is the data set as it
    was written, up to its directory. Raises `BadInput` where all are splits that hold class folders.
    """
    inner = {folder: _inner(folder, pictures_in) for folder in used}
    splits = [folder for folder in used if _SPLIT.fullmatch(folder)]
    nested = [folder for folder in splits if inner[folder] and folder not in pictures_in]
    if nested and len(nested) == len(splits) and (len(splits) == len(used) or _share_classes(splits, inner)):
        raise BadInput(
            f"{root} holds splits ({', '.join(splits)}), not classes. Name one of them: {name}/{_for_tests(splits)}"
        )
    if len(splits) == len(used) > 1:
        return (f"The class folders are called like splits ({', '.join(used)}). Are their pictures sorted by class?",)
    if any(folder in pictures_in for folder in used) or not all(inner.values()):
        return ()
    common = set.intersection(*(set(folders) for folders in inner.values()))
    return _told(used, inner, sorted(common), name)


def _told(used: Sequence[str], inner: Mapping[str, list[str]], common: list[str], name: str) -> tuple[str, ...]:
    shown = ", ".join(common[:4])
    if common and all(_SPLIT.fullmatch(folder) for folder in common):
        return (
            f"Every class folder holds splits ({shown}), and pictures of all of them were taken. To measure on one, "
            f"gather its pictures: {_for_tests(common)}/CLASS/picture.jpg.",
        )
    if len(used) == 1 and len(common) > 1:
        return (
            f"The only class folder, {used[0]}, holds folders itself ({shown}). If these are the classes, name it: "
            f"{name}/{used[0]}",
        )
    if len(common) > 1 and all(set(folders) == set(common) for folders in inner.values()):
        return (
            f"All {len(used)} class folders ({', '.join(used[:4])}) hold folders of the same names ({shown}). If these "
            f"are the classes, name one of the folders above them: {name}/{used[0]}",
        )
    return ()


def _inner(folder: str, pictures_in: Mapping[str, int]) -> list[str]:
    """Return the names of the folders directly inside one that hold pictures, at any depth."""
    below = [path for path in pictures_in if path.startswith(f"{folder}/")]
    return sorted({path.split("/")[1] for path in below})


def _share_classes(splits: Sequence[str], inner: Mapping[str, list[str]]) -> bool:
    return len(splits) > 1 and len(set.intersection(*(set(inner[split]) for split in splits))) > 1


def _for_tests(splits: Sequence[str]) -> str:
    """Return the split that one measures on."""
    ranks = {name: at for at, name in enumerate(_FOR_TESTS)}
    return min(splits, key=lambda split: (ranks.get(split.lower(), len(ranks) + ("train" in split.lower())), split))


OPTIONS = READING | {"order"}


def folder(name: str, model: Classifier | None) -> Source:
    """Return the pictures under the class folders of the directory `name`, which may have options behind a `?`.

    `name` may be the URL of a folder in a store that fsspec reads.

    Raises `BadInput` when there is no such directory, no class folder or no picture, and for options that do not fit.
    """
    vocabulary = Vocabulary(model.classes, model.synsets) if model and model.classes else None
    refuse_credentials(name)
    plain, options = take_apart(name, OPTIONS)
    written = Written(f"folder:{plain}", options)
    if is_far(plain):
        return far_class_folders(far_folder(plain, "folder:"), vocabulary, written).source(model)
    return class_folders(existing(plain, "folder:"), vocabulary, written).source(model)


def class_folders(root: Path, vocabulary: Vocabulary | None, written: Written | None = None) -> LabelledFiles:
    """Return the pictures under `root`, labelled by the folder at its top that they lie in."""
    return _class_folders(root, scan(root), vocabulary, written or Written(f"folder:{root}"))


def far_class_folders(far: FarFolder, vocabulary: Vocabulary | None, written: Written) -> LabelledFiles:
    """Return the same of a folder in a store."""
    found = _class_folders(far.place.url, far.listing, vocabulary, written)
    held = far.files(found.files)
    return dataclasses.replace(found, far=held, notes=(*found.notes, *held.named_by()))


def _class_folders(root: str | Path, found: Listing, vocabulary: Vocabulary | None, written: Written) -> LabelledFiles:
    used = [name for name, files in found.files_in.items() if files]
    if not used:
        raise BadInput(_nothing(root, found))
    known = {name.lower() for name in (*vocabulary.classes, *(vocabulary.synsets or ()))} if vocabulary else set()
    name = written.name.rstrip("/")
    nesting = () if {*map(str.lower, used)} <= known else check_nesting(root, used, found.pictures_in, name)
    folders = Folders(tuple(used), (*found.files_in, *found.hidden))
    labelling = _labelled(folders, vocabulary, written)
    labels = tuple([labelling.label_of[name] for name in used for _ in found.files_in[name]])
    files = tuple([file for name in used for file in found.files_in[name]])
    others = renumberings(folders, labelling.label_of, lambda order: written.advise("order", order))
    notes = (*labelling.notes, *nesting, *_empty(found), *_loose(found), *found.notes)
    return LabelledFiles(root, files, labels, labelling.classes, notes, written, others)


def _labelled(folders: Folders, vocabulary: Vocabulary | None, written: Written) -> Labelling:
    order = written.options.get("order")
    if order is not None:
        labels, classes = numbered(folders, order)
        return Labelling(labels, vocabulary.classes if vocabulary else classes)
    labelling = label_folders(folders.used, vocabulary)
    if vocabulary is not None or not folders.numeric:
        return labelling
    by_text, _ = numbered(folders, "imagefolder")
    moved = next((name for name in sorted(folders.used, key=int) if by_text[name] != int(name)), None)
    if moved is None:
        return labelling
    note = (
        f"The class folders are called by numbers, which are the labels: folder {moved} is class {int(moved)}. "
        f"torchvision's ImageFolder numbers them in the order of text instead, and {moved} is its class "
        f"{by_text[moved]}. If the model was trained with it, say {written.advise('order', 'imagefolder')} "
        "(order=number if not)."
    )
    return dataclasses.replace(labelling, notes=(*labelling.notes, note))


def _nothing(root: str | Path, found: Listing) -> str:
    loose, folders = len(found.loose), len(found.files_in)
    told = f"{loose} pictures but no class folders" if loose else f"no pictures in its {folders} folders"
    others = f" {' '.join(found.notes)}" if found.notes else ""
    return (
        f"{root} has {told}. Expected one folder per class with pictures in it, {root}/CLASS/picture.jpg "
        f"(or {', '.join(USUAL[2:])}).{others}"
    )


def _empty(found: Listing) -> tuple[str, ...]:
    empty = [name for name, files in found.files_in.items() if not files]
    if not empty:
        return ()
    return (f"{len(empty)} class folders without pictures were left out: {', '.join(empty[:5])}.",)


def _loose(found: Listing) -> tuple[str, ...]:
    count = len(found.loose)
    return (f"{count} pictures lie in no class folder and were left out: {found.loose[0]}.",) if count else ()


def existing(name: str, scheme: str) -> Path:
    """Return the directory `name`, or raise `BadInput` naming its nearest neighbour."""
    if not name:
        raise BadInput(f"{scheme!r} names no directory; write {scheme}DIR.")
    root = Path(name).expanduser()
    if not root.is_dir():
        there = [p.name for p in root.parent.iterdir() if p.is_dir()] if root.parent.is_dir() else []
        raise BadInput(f"There is no directory {root} (from '{scheme}{name}').{did_you_mean(root.name, there)}")
    return root
