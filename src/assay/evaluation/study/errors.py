"""Where a slip in a study is: its line and column in the file, its path, and what to write instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from assay.core.errors import BadInput, did_you_mean

Path = tuple[str | int, ...]


class Misplaced(BadInput):
    """A slip inside a value: `where` is its path below that value."""

    def __init__(self, where: Path, message: str) -> None:
        super().__init__(message)
        self.where = where


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the values and keys of a study were written: path -> "study.yaml:6:22"."""

    values: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    keys: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    file: str = ""

    def of(self, path: Path, *, key: bool = False) -> str:
        """Return where `path` was written, or the nearest thing around it."""
        if key and path in self.keys:
            return self.keys[path]
        for end in range(len(path), 0, -1):
            if path[:end] in self.values:
                return self.values[path[:end]]
        return self.file


def spoken(path: Path) -> str:
    """Return a path as people write it: `threats[0].eps[3]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def explain(
    error: ValidationError, raw: Mapping[str, Any], places: Places, keys: Mapping[str, Sequence[str]]
) -> BadInput:
    """Return the `BadInput` that says, one line per slip, where it is, what it is, and the fix.

    `keys` are those that a mapping may have, by the key that it stands under ("" at the top).
    """
    # a list whose every entry is refused is also reported as empty: said once is enough
    slips = [one for one in error.errors() if not (one["type"] == "too_short" and one["input"])]
    lines = [_line(one, raw, places, keys) for one in slips]
    return BadInput("\n".join(dict.fromkeys(lines)))


def _line(one: Any, raw: Mapping[str, Any], places: Places, keys: Mapping[str, Sequence[str]]) -> str:
    cause = one.get("ctx", {}).get("error")
    where = cause.where if isinstance(cause, Misplaced) else ()
    path = _written_path((*one["loc"], *where), raw)
    key = one["type"] in ("extra_forbidden", "missing") or isinstance(cause, UnknownKey)
    place = places.of(path, key=key)
    told = f"{_label(path)}{_message(one, cause, keys)}"
    return f"{place}  {told}" if place else told


class UnknownKey(Misplaced):
    """A key that does not exist there."""


def _label(path: Path) -> str:
    return f"{spoken(path)}: " if path else ""


def _message(one: Any, cause: BaseException | None, keys: Mapping[str, Sequence[str]]) -> str:
    if cause is not None:
        return str(cause)
    name = one["loc"][-1] if one["loc"] else ""
    match one["type"]:
        case "extra_forbidden":
            around = [part for part in one["loc"][:-1] if isinstance(part, str)]
            choices = keys[around[-1] if around else ""]
            return f"Unknown key {name!r}.{did_you_mean(str(name), choices)} There are: {', '.join(choices)}."
        case "missing":
            return f"is missing. {_EXAMPLES.get(str(name), 'Write it.')}"
        case "string_pattern_mismatch":
            return f"{one['input']!r} cannot name a folder. Use letters, digits, '.', '_' and '-'."
        case "literal_error":
            given = str(one["input"])
            names = _choices(one)
            return f"Unknown value {given!r}.{did_you_mean(given, names)} There are: {', '.join(names)}."
        case "too_short":
            return f"is empty. {_EXAMPLES.get(str(name), 'Write at least one.')}"
    said = str(one["msg"])
    return f"{one['input']!r}: {said[:1].lower()}{said[1:]}."


_EXAMPLES = {
    "study": "Give the study a name, such as 'study: resnet50-linf'.",
    "models": "Write one or more, such as 'models: [torchvision:resnet50]'.",
    "data": "Write a source, such as 'data: mnist/test'.",
    "threats": "Write one or more, such as 'threats: [{norm: linf, eps: [4/255]}]'.",
    "attacks": "Write one or more, such as 'attacks: [fgsm, pgd]'.",
    "eps": "Write one or more budgets, such as 'eps: [2/255, 4/255]'.",
    "norm": "Write linf, l2, l1, l0, ycbcr or patch.",
    "attack": "Name the attack, such as '{attack: pgd, steps: 40}'.",
}


def _choices(one: Any) -> list[str]:
    return [part.strip().strip("'") for part in str(one["ctx"]["expected"]).replace(" or ", ",").split(",")]


def _written_path(path: Path, raw: Mapping[str, Any]) -> Path:
    """Return the path as it stands in what the user wrote, where one grid or one value needs no list."""
    if path[:1] == ("grids",) and len(path) > 1:
        grid = _as_list(raw["grids"])[int(path[1])] if "grids" in raw else None
        if grid is None or (len(path) > 2 and path[2] not in grid and path[2] in raw):
            path = path[2:]
    written: list[str | int] = []
    value: Any = raw
    for at, part in enumerate(path):
        if isinstance(part, int) and not isinstance(value, (list, tuple)):
            continue
        if part == "options" and isinstance(value, Mapping) and "options" not in value:
            continue
        written.append(part)
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif isinstance(part, str) and at:
            # the short form: a path below a plain text is that text
            written.pop()
            break
    return tuple(written)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
