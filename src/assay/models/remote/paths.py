# shape: a small language of its own, read without the client
"""Paths into an answer, such as `result.scores`, `predictions[0]` and `[*].score`."""

from __future__ import annotations

import re
from typing import Any

from assay.core.errors import BadInput, ModelError
from assay.models.remote.transport import excerpt

_PART = re.compile(r"\.?([A-Za-z_$@][\w$@-]*)|\[(\d+|\*)\]|\[\"([^\"]+)\"\]")

Part = str | int | None
"""A key, a place in a list, or None for every place."""


def parts_of(path: str) -> tuple[Part, ...]:
    """Return the parts of a path; `.` and `$` are the answer itself. Raises `BadInput` for what is no path."""
    rest, found = path.strip(), []
    if rest in (".", "$"):
        return ()
    rest = rest[1:] if rest.startswith(("$.", "$[")) else rest
    at = 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None:
            break
        name, place, quoted = part.groups()
        found.append((quoted or name) if place is None else None if place == "*" else int(place))
        at = part.end()
    if not found or at < len(rest):
        raise BadInput(f'{path!r} is no path into an answer; expected such as result.scores, [*].score or ["a b"][0].')
    return tuple(found)


def value_at(answer: Any, parts: tuple[Part, ...], shown: str, written: str) -> Any:
    """Return what stands at a path: `[*]` makes a list of what stands at the rest of it. Raises `ModelError`."""
    value = answer
    for at, part in enumerate(parts):
        if part is None:
            if not isinstance(value, list):
                raise _missing(answer, shown, written)
            return [value_at(one, parts[at + 1 :], shown, written) for one in value]
        fits = isinstance(value, dict) and part in value if isinstance(part, str) else _has(value, part)
        if not fits:
            raise _missing(answer, shown, written)
        value = value[part]
    return value


def _has(value: Any, place: int) -> bool:
    return isinstance(value, list) and place < len(value)


def _missing(answer: Any, shown: str, written: str) -> ModelError:
    return ModelError(f"The endpoint {shown} answered nothing at {written}: {excerpt(str(answer))}")
