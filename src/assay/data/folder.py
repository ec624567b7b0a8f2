"""`folder:DIR`: one folder per class, with pictures anywhere below it."""

from __future__ import annotations

from pathlib import Path

from assay.core.errors import BadInput, did_you_mean
from assay.data.files import LabelledFiles
from assay.data.labels import Vocabulary, label_folders
from assay.data.pictures import EXTENSIONS, pictures_under
from assay.data.source import Source
from assay.models.classifier import Classifier


def folder(name: str, model: Classifier | None) -> Source:
    """Return the pictures under the class folders of the directory `name`.

    Raises `BadInput` when there is no such directory, no class folder or no picture.
    """
    vocabulary = Vocabulary(model.classes, model.synsets) if model and model.classes else None
    return class_folders(existing(name, "folder:"), vocabulary).source(model)


def class_folders(root: Path, vocabulary: Vocabulary | None) -> LabelledFiles:
    """Return the pictures under `root`, labelled by the folder at its top that they lie in."""
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [file for name in names for file in (f"{name}/{rest}" for rest in pictures_under(root / name))]
    if not files:
        loose = len(pictures_under(root))
        found = f"{loose} pictures but no class folders" if loose else f"no pictures in its {len(names)} folders"
        raise BadInput(
            f"{root} has {found}. Expected one folder per class with pictures in it, {root}/CLASS/picture.jpg "
            f"(or {', '.join(EXTENSIONS[2:])})."
        )
    used = sorted({file.partition("/")[0] for file in files})
    labelling = label_folders(used, vocabulary)
    notes = list(labelling.notes)
    if len(used) < len(names):
        empty = sorted(set(names) - set(used))
        notes.append(f"{len(empty)} class folders without pictures were left out: {', '.join(empty[:5])}.")
    labels = tuple(labelling.label_of[file.partition("/")[0]] for file in files)
    return LabelledFiles(root, tuple(files), labels, labelling.classes, tuple(notes))


def existing(name: str, scheme: str) -> Path:
    """Return the directory `name`, or raise `BadInput` naming its nearest neighbour."""
    if not name:
        raise BadInput(f"{scheme!r} names no directory; write {scheme}DIR.")
    root = Path(name).expanduser()
    if not root.is_dir():
        there = [p.name for p in root.parent.iterdir() if p.is_dir()] if root.parent.is_dir() else []
        raise BadInput(f"There is no directory {root} (from '{scheme}{name}').{did_you_mean(root.name, there)}")
    return root
