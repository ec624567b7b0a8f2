"""A target class for each image: from a file, from the data themselves, or from Python."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from assay.core.errors import AssayError, BadInput
from assay.core.goal import OutOfTop, Targeted, Untargeted
from assay.data import Data
from assay.evaluation.study.goal_words import COLUMN, fixed_class, planned, spoken, target_file
from assay.evaluation.study.goals import class_index

_TARGET = ("target", "targetclass", "targetlabel")
_ID = ("id", "sampleid", "imageid", "image", "file", "filename", "path", "name")
_FORMS = "Write one target per line, in the order of the images, or lines of id,target."


def aimed(goal: str, data: Data, classes: Sequence[str] | None) -> tuple[str, Data]:
    """Return a goal, as a cell holds it, and the data with the targets that it names.

    A goal with a target per image carries their digest: where their file lies changes no number, what it says does.
    Raises `BadInput` for a file that does not fit the data, for data without targets, and for a goal whose target is
    the label of every image.
    """
    written, path = spoken(goal), target_file(goal)
    if path is None and (written != COLUMN or (data.targets is None and COLUMN.split()[1] in (classes or ()))):
        _check_some_left(written, data, _labels_of(written, data, classes))
        return written, data
    if path is not None:
        data = dataclasses.replace(data, targets=_from_file(Path(path), data, classes))
    targets = data.targets
    if targets is None:
        raise BadInput(
            f"{data.source} has no target for each image, which the goal {COLUMN!r} asks for. Name the column of a "
            "table that has them, or write 'targeted file targets.csv'."
        )
    _check_some_left(written, data, targets)
    told = "\n".join(f"{target} {name}" for name, target in zip(data.ids, targets, strict=True))
    digest = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
    if goal not in (written, planned(written, digest)):
        raise BadInput(f"The targets of {written!r} are not those of the plan. Leave the file alone during a run.")
    return planned(written, digest), data


def _labels_of(goal: str, data: Data, classes: Sequence[str] | None) -> Sequence[int]:
    # the target of every image, where one class is that of all; what is unknown is told when the model is asked
    name, count = fixed_class(goal), len(classes or ())
    try:
        return (
            [] if name is None else [int(name) if name.isdecimal() else class_index(name, count, classes)] * len(data)
        )
    except AssayError:
        return []


def _check_some_left(goal: str, data: Data, targets: Sequence[int]) -> None:
    if targets and all(target == label for target, label in zip(targets, data.labels, strict=True)):
        raise BadInput(
            f"The goal {goal!r} aims at the label of every image of {data.source}: there is nothing to attack. Choose "
            "another target, or images of other classes."
        )


def _from_file(path: Path, data: Data, classes: Sequence[str] | None) -> tuple[int, ...]:
    try:
        stat = path.stat()
        rows = _rows(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, UnicodeError, csv.Error) as error:
        raise BadInput(f"The targets {path} cannot be read ({error}). {_FORMS}") from None
    by_id = {name: target for name, target in rows if name is not None}
    if not by_id:
        if len(rows) != len(data):
            raise BadInput(
                f"{path} has {len(rows)} targets, {data.source} has {len(data)} images. Write one per image, or lines "
                "of id,target, of which those of the images at hand are taken."
            )
        return tuple(_number(target, path, classes) for _, target in rows)
    names = _names(data, by_id)
    missing = [name for name, found in zip(data.ids, names, strict=True) if found is None]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadInput(
            f"{path} has no target for {missing[0]!r}{more}; its ids are like {next(iter(by_id))!r}. Name images by "
            "their id in the records, or by a file name that no other image has."
        )
    return tuple(_number(by_id[name], path, classes) for name in names if name is not None)


@functools.lru_cache(maxsize=4)
def _rows(path: Path, changed: int, size: int) -> tuple[tuple[str | None, str], ...]:
    """Return (id or None, target) for each line; `changed` and `size` tell one version of the file from another."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(cell.strip() for cell in line)]
    if not lines:
        raise BadInput(f"{path} is empty. {_FORMS}")
    head = [re.sub(r"[\s_-]+", "", cell).lower() for cell in lines[0]]
    width = len(head)
    target = next((at for at, name in enumerate(head) if name in _TARGET), None)
    if target is not None:
        lines = lines[1:]
        where = next((at for at, name in enumerate(head) if name in _ID), None)
    elif width <= 2:
        target, where = width - 1, 0 if width == 2 else None
    else:
        raise BadInput(f"{path} has {width} columns and none is called target. Name it in a first line: id,target.")
    for line in lines:
        if len(line) != width:
            raise BadInput(f"{path}: the line {','.join(line)!r} has {len(line)} columns, expected {width}. {_FORMS}")
    found = tuple((None if where is None else line[where], line[target]) for line in lines)
    _check_once(path, found)
    return found


def _check_once(path: Path, rows: Sequence[tuple[str | None, str]]) -> None:
    said: dict[str, str] = {}
    for name, target in rows:
        if name is not None and said.setdefault(name, target) != target:
            raise BadInput(f"{path} gives {name!r} the targets {said[name]} and {target}. Leave one out.")


def _names(data: Data, known: Mapping[str, str]) -> list[str | None]:
    # an image's id, or else its file name, with or without its ending, if no other image has the same
    paths = [PurePosixPath(name) for name in data.ids]
    ways: list[list[str]] = [list(data.ids), [path.name for path in paths], [path.stem for path in paths]]
    found: list[str | None] = [None] * len(paths)
    for way in ways:
        times: dict[str, int] = {}
        for name in way:
            times[name] = times.get(name, 0) + 1
        found = [
            had if had is not None or name not in known or times[name] > 1 else name
            for had, name in zip(found, way, strict=True)
        ]
    return found


def _number(text: str, path: Path, classes: Sequence[str] | None) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return class_index(text, len(classes or ()), classes)
    except BadInput:
        raise BadInput(
            f"{path}: {text!r} is no target; expected a class number from 0, or the name of a class."
        ) from None


def given(goal: Any, data: Data) -> tuple[str, Data]:
    """Return a goal that was given in Python as a study writes it, and the data with its targets.

    `goal` is a goal of `assay.core.goal` made from the labels of `data`, or class numbers, one per image. Raises
    `BadInput` for others, and where labels or numbers do not fit the data.
    """
    if isinstance(goal, Untargeted | OutOfTop | Targeted) and goal.y.tolist() != list(data.labels):
        raise BadInput(
            f"The goal holds {len(goal.y)} labels that are not those of {data.source} ({len(data)} images). Build it "
            "from the labels of the data: torch.tensor(assay.load_data(...).labels)."
        )
    match goal:
        case Untargeted(reject=None):
            return "untargeted", data
        case OutOfTop(k=k):
            return f"out-of-top {k}", data
        case Targeted(t=t):
            return COLUMN, dataclasses.replace(data, targets=_checked(t, data))
        case Tensor() | list() | tuple():
            return COLUMN, dataclasses.replace(data, targets=_checked(goal, data))
    raise BadInput(
        f"goal is a {type(goal).__name__}; an evaluation takes words such as 'targeted next', assay.Targeted(y, t), "
        "assay.OutOfTop(y, k), or a class number per image. Other goals go to assay.attack."
    )


def _checked(targets: Any, data: Data) -> tuple[int, ...]:
    plain: Any = targets.tolist() if isinstance(targets, Tensor) else list(targets)
    # of a tensor without dimensions one number
    plain = plain if isinstance(plain, list) else [plain]
    whole = all(type(one) is int and one >= 0 for one in plain)
    if not whole or len(plain) != len(data):
        raise BadInput(
            f"The targets are {str(plain)[:60]}; expected {len(data)} class numbers from 0, one for each image of "
            f"{data.source}."
        )
    return tuple(plain)
