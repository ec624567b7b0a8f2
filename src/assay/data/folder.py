"""`folder:DIR`: one folder per class, with pictures anywhere below it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from assay.core.errors import BadInput, did_you_mean
from assay.data.class_orders import Folders, numbered, renumberings
from assay.data.dataset import Source
from assay.data.folder_scan import Listing, scan
from assay.data.labelled_files import LabelledFiles
from assay.data.labels import Labelling, Vocabulary, label_folders
from assay.data.nested_pairs import check_nesting
from assay.data.pictures import USUAL
from assay.data.spec import take_apart
from assay.data.written_labels import READING, Written
from assay.models.classifier import Classifier

OPTIONS = READING | {"order"}


def folder(name: str, model: Classifier | None) -> Source:
    """Return the pictures under the class folders of the directory `name`, which may have options behind a `?`.

    Raises `BadInput` when there is no such directory, no class folder or no picture, and for options that do not fit.
    """
    vocabulary = Vocabulary(model.classes, model.synsets) if model and model.classes else None
    plain, options = take_apart(name, OPTIONS)
    written = Written(f"folder:{plain}", options)
    return class_folders(existing(plain, "folder:"), vocabulary, written).source(model)


def class_folders(root: Path, vocabulary: Vocabulary | None, written: Written | None = None) -> LabelledFiles:
    """Return the pictures under `root`, labelled by the folder at its top that they lie in."""
    written = written or Written(f"folder:{root}")
    found = scan(root)
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


def _nothing(root: Path, found: Listing) -> str:
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
