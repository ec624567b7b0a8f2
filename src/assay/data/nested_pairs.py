"""Folders that are no classes: splits, and roots one level too high."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.core.errors import BadInput

_SPLIT = re.compile(
    r"(.*[_\- ])?(train|training|trainval|trn|val|valid|validation|test|testing|tst|dev|eval|evaluation|hold-?out)"
    r"([_\- ]?(set|data|images|imgs|split|\d+))?",
    re.IGNORECASE,
)
_FOR_TESTS = ("test", "val", "valid", "validation", "testing", "eval", "dev")


def check_nesting(root: Path, used: Sequence[str], pictures_in: Mapping[str, int], name: str) -> tuple[str, ...]:
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
