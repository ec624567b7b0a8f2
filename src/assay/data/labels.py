"""From the names of class folders to label numbers: indices, synsets or class names of a model, or their own order."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from assay.core.errors import BadInput, did_you_mean


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What a model calls its classes: names and, for ImageNet's, synsets, both in label order."""

    classes: tuple[str, ...]
    synsets: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Labelling:
    """Which label each folder stands for, what the labels are called, and what the user should know about it."""

    label_of: dict[str, int]
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def label_folders(names: Sequence[str], vocabulary: Vocabulary | None) -> Labelling:
    """Return the label of each folder name.

    Whole numbers are labels themselves. With a `vocabulary`, synsets and class names give its labels; folders
    that it does not know at all are numbered in alphabetical order, which is noted. Raises `BadInput` for a label
    that the vocabulary does not have, and when it knows some of the folders but not all.
    """
    if all(name.isdecimal() for name in names):
        return _by_number(names, vocabulary)
    ordered = sorted(names)
    if vocabulary is None:
        return Labelling({name: label for label, name in enumerate(ordered)}, tuple(ordered))
    for kind, known, in_lower_case in _tables(vocabulary):
        spaced = {name: _spaced(name) for name in names}
        found = {name: known.get(text, in_lower_case.get(text.lower())) for name, text in spaced.items()}
        label_of = {name: label for name, label in found.items() if label is not None}
        if len(label_of) == len(names):
            return Labelling(label_of, vocabulary.classes, _ambiguous(label_of, vocabulary) if kind == "class" else ())
        if label_of:
            lost = next(name for name in ordered if name not in label_of)
            raise BadInput(
                f"Folder {lost!r} is no {kind} of the model, but {next(iter(label_of))!r} is."
                f"{did_you_mean(lost, known)} Rename the folder, or remove it."
            )
    count = len(vocabulary.classes)
    if len(names) > count:
        raise BadInput(
            f"{len(names)} class folders, but the model has {count} classes and none of them is called like a folder "
            f"(folders: {', '.join(ordered[:3])}; classes: {', '.join(vocabulary.classes[:3])}). Name the folders by "
            "label number, synset or class name."
        )
    note = (
        f"No class folder is called like a class of the model ({', '.join(ordered[:3])} against "
        f"{', '.join(vocabulary.classes[:3])}): folders were numbered in alphabetical order. If the clean accuracy is "
        "near chance, name the folders by label number, synset or class name."
    )
    return Labelling({name: label for label, name in enumerate(ordered)}, vocabulary.classes, (note,))


def check_labels(labels: Sequence[int], count: int, what: str) -> None:
    """Raise `BadInput` naming the first of `labels` that is not in 0 .. count - 1."""
    for label in labels:
        if not 0 <= label < count:
            raise BadInput(
                f"{what} has label {label}; expected 0 to {count - 1}, as the model has {count} classes. "
                "Count labels from 0, and check that data and model belong together."
            )


def _by_number(names: Sequence[str], vocabulary: Vocabulary | None) -> Labelling:
    label_of = {name: int(name) for name in names}
    if len(set(label_of.values())) < len(names):
        raise BadInput(f"Two class folders have the same number: {', '.join(sorted(names)[:5])}. Rename one.")
    count = len(vocabulary.classes) if vocabulary is not None else 0
    if count and min(label_of.values()) >= 1 and max(label_of.values()) == count:
        raise BadInput(
            f"The class folders are called 1 to {count}, and the model's classes are 0 to {count - 1}. If the folders "
            "count from 1, say folder:DIR?order=from-one."
        )
    if vocabulary is not None:
        for name, label in label_of.items():
            check_labels([label], count, f"Folder {name!r}")
    return Labelling(label_of, vocabulary.classes if vocabulary else None)


def _tables(vocabulary: Vocabulary) -> list[tuple[str, dict[str, int], dict[str, int]]]:
    """Return what a folder may be called -> label, as it is written and in lower case, for synsets and for names.

    Lower case is left out where two classes share it: ImageNet has the dog Cardigan and the garment cardigan.
    """
    spelled = {_spaced(name): label for label, name in enumerate(vocabulary.classes)}
    times = Counter(name.lower() for name in spelled)
    lower = {name.lower(): label for name, label in spelled.items() if times[name.lower()] == 1}
    tables = [("class", spelled, lower)]
    if vocabulary.synsets is not None:
        tables.insert(0, ("synset", {name: label for label, name in enumerate(vocabulary.synsets)}, {}))
    return tables


def _spaced(name: str) -> str:
    """Return a class name with single spaces for what people write in folder names instead."""
    return re.sub(r"[\s_-]+", " ", name).strip()


def _ambiguous(label_of: dict[str, int], vocabulary: Vocabulary, what: str = "Folder") -> tuple[str, ...]:
    """Return a note for each folder whose class name is also a part of other classes' names."""
    notes = []
    spaced = {name: f" {_spaced(name).lower()} " for name in vocabulary.classes}
    for folder, label in sorted(label_of.items()):
        own = vocabulary.classes[label]
        others = [name for name in spaced if name != own and spaced[own].strip() and spaced[own] in spaced[name]]
        if others:
            rest = " or ".join(map(repr, others))
            notes.append(f"{what} {folder!r} was taken for class {label} ({own!r}), not {rest}.")
    return tuple(notes)


def find_class(
    name: str, count: int, classes: Sequence[str] | None, synsets: Sequence[str] | None = None
) -> tuple[int, tuple[str, ...]]:
    """Return the label that `name` stands for (its number, synset or class name), and what the user should know.

    A name that is also a part of other classes' names is noted. Raises `BadInput` for none of the `count` classes.
    """
    if name.isdecimal():
        if int(name) >= count:
            raise BadInput(f"The target class {name} does not exist: the model has {count} classes, 0 to {count - 1}.")
        return int(name), ()
    known = Vocabulary(tuple(classes or ()), tuple(synsets) if synsets else None)
    text = _spaced(name)
    for _, spelled, lower in _tables(known):
        label = spelled.get(text, lower.get(text.lower()))
        if label is not None:
            return label, _ambiguous({name: label}, known, "The target") if known.classes else ()
    near = did_you_mean(name, [*known.classes, *(synsets or ())])
    raise BadInput(f"Unknown target class {name!r}.{near} Give its number, 0 to {count - 1}, or its name.")


SEVERAL_LABELS = (
    "Studies take one label per image. Multi-label models are attacked in Python, on tensors: assay.attack(method, "
    "model, x, y, threat, goal=assay.MultiLabel(y)) with multi-hot labels y [N, K]."
)
_SEPARATORS = (r";", r"\|", r",", r"(?<=\d)\s+(?=\d)")
_AROUND = " []{}()'\""


def lists_of_labels(names: Sequence[str]) -> str | None:
    """Return the first of the class names that is a list such as `cat;dog`, or None.

    Names may hold such signs themselves ("tench, Tinca tinca"). In lists the parts are numbers, or they return: half of
    them or more are in several of the names.
    """
    for sign in _SEPARATORS:
        split = {name: {part.strip(_AROUND) for part in re.split(sign, name.strip(_AROUND))} for name in names}
        parts = Counter(part for own in split.values() for part in own)
        listed = [name for name, own in split.items() if len(own) > 1]
        returning = 2 * sum(count > 1 for count in parts.values()) >= len(parts)
        if listed and (returning or all(part.isdecimal() for part in parts)):
            return listed[0]
    return None


def columns_of_labels(texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the columns, by their values, that each say of one label whether an image has it: 0 and 1 alone."""
    return [name for name, values in texts.items() if {"0", "1"} >= {one.removesuffix(".0") for one in values}]
