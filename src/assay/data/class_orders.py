"""The orders in which people number class folders: by their numbers, as torchvision does, naturally, from a list."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from assay.core.errors import BadInput, did_you_mean

Labels = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Renumbering:
    """Another way to number the same folders: what to write for it, in words, and old label -> new label."""

    advice: str
    how: str
    new_label: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Folders:
    """Names of class folders: those with pictures, and every one that there is, the empty and hidden included."""

    used: tuple[str, ...]
    every: tuple[str, ...]

    @property
    def numeric(self) -> bool:
        """Say whether all folders with pictures are called by whole numbers."""
        return all(name.isdecimal() for name in self.used)


def _ranked(names: Sequence[str], key: Callable[[str], object] | None = None) -> dict[str, int]:
    return {name: at for at, name in enumerate(sorted(names, key=key))}  # type: ignore[arg-type]  # keys of one kind


def _natural(name: str) -> tuple[object, ...]:
    # text and numbers alternate, so that like is compared with like
    parts = re.split(r"(\d+)", name.lower())
    return (*(int(part) if at % 2 else part for at, part in enumerate(parts)), name)


def _shifted(names: Sequence[str], by: int) -> dict[str, int]:
    return {name: int(name) - by for name in names}


ORDERS: dict[str, tuple[str, Callable[[Folders], dict[str, int]]]] = {
    "number": ("called by the folders' numbers", lambda folders: _shifted(folders.used, 0)),
    "from-one": ("counted from 1 in the folders' names", lambda folders: _shifted(folders.used, 1)),
    "imagefolder": ("numbered as torchvision's ImageFolder numbers folders", lambda folders: _ranked(folders.every)),
    "alphabetical": ("numbered in alphabetical order", lambda folders: _ranked(folders.used)),
    "caseless": (
        "numbered in alphabetical order without regard to case",
        lambda folders: _ranked(folders.used, lambda name: (name.lower(), name)),
    ),
    "natural": ("numbered in natural order (2 before 10)", lambda folders: _ranked(folders.used, _natural)),
    "reversed": (
        "numbered in reversed alphabetical order",
        lambda folders: {name: len(folders.used) - 1 - at for name, at in _ranked(folders.used).items()},
    ),
}
_OF_NUMBERS = ("number", "from-one")


def numbered(folders: Folders, order: str) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Return the label of each folder in an `order` that the user names, and what the labels are called, if known.

    `order` is one of `ORDERS`, class names with commas between them, or a file of class names (one on each line, or
    JSON: a list, name -> label or label -> name). Raises `BadInput` for any other, for names that are no numbers where
    numbers are needed, and for folders that are in no list.
    """
    if order in ORDERS:
        if order in _OF_NUMBERS and not folders.numeric:
            name = next(name for name in folders.used if not name.isdecimal())
            raise BadInput(f"order={order} needs folders called by whole numbers, and one is called {name!r}.")
        labels = ORDERS[order][1](folders)
        if min(labels.values()) < 0:
            raise BadInput(f"order={order} counts from 1, and there is a folder called 0. Say order=number.")
        by_label = {label: name for name, label in labels.items()}
        named = None if order in _OF_NUMBERS else tuple(by_label[at] for at in range(len(by_label)))
        return {name: labels[name] for name in folders.used}, named
    if "," in order:
        return _listed(folders.used, [name.strip() for name in order.split(",")], order)
    path = Path(order).expanduser()
    if path.is_file():
        return _listed(folders.used, _read(path), str(path))
    raise BadInput(
        f"Unknown order {order!r}.{did_you_mean(order, ORDERS)} Expected one of {', '.join(ORDERS)}, class names in "
        "the model's order (order=dog,cat), or a file of class names."
    )


def renumberings(folders: Folders, labels: Labels, advise: Callable[[str], str]) -> tuple[Renumbering, ...]:
    """Return the orders that number these folders otherwise than `labels`; `advise(order)` is what to write for one."""
    found: dict[tuple[tuple[int, int], ...], Renumbering] = {}
    for order, (how, number) in ORDERS.items():
        if order in _OF_NUMBERS and not folders.numeric:
            continue
        other = number(folders)
        changed = tuple(sorted((labels[name], other[name]) for name in folders.used))
        if min(other.values()) >= 0 and any(old != new for old, new in changed):
            found.setdefault(changed, Renumbering(advise(order), how, changed))
    return tuple(found.values())


def _listed(names: Sequence[str], classes: Sequence[str], where: str) -> tuple[dict[str, int], tuple[str, ...]]:
    places = {name: at for at, name in enumerate(classes)}
    if len(places) < len(classes):
        twice = next(name for name in classes if list(classes).count(name) > 1)
        raise BadInput(f"{twice!r} stands twice in the order {where}; name each class once.")
    for name in names:
        if name not in places:
            near = did_you_mean(name, places)
            raise BadInput(f"The folder {name!r} is not in the order {where}.{near} Name all class folders.")
    return {name: places[name] for name in names}, tuple(classes)


def _read(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        value = json.loads(text)
        if isinstance(value, dict) and all(isinstance(label, int) for label in value.values()):
            value = {str(label): name for name, label in value.items()}
        if isinstance(value, dict):
            # ImageNet's own file has [synset, name] at each number
            value = [value[str(at)] for at in range(len(value))]
        return [str(name[0] if isinstance(name, list) else name) for name in value]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadInput(
            f"{path} is no list of class names; expected a JSON list, or names and labels 0, 1, 2, … ({error})."
        ) from error
