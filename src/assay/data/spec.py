"""A data set as the user names it: `scheme:name?option=value&option=value`, taken apart and checked."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from assay.core.errors import BadInput, did_you_mean


def take_apart(name: str, allowed: Collection[str]) -> tuple[str, dict[str, str]]:
    """Return the name without its options, and the options written behind its last `?`.

    A file or folder that exists under the whole name has no options: its name holds a `?` of its own. Raises
    `BadInput` for an option that is written twice, without a value, or is none of those `allowed`.
    """
    plain, mark, written = name.rpartition("?")
    if not mark or Path(name).expanduser().exists():
        return name, {}
    options: dict[str, str] = {}
    for part in written.split("&"):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise BadInput(f"{part!r} in {name!r} is no option; expected ?name=value&name=value.")
        if key not in allowed:
            takes = f"It takes {', '.join(sorted(allowed))}." if allowed else "It takes none."
            raise BadInput(f"Unknown option {key!r} in {name!r}.{did_you_mean(key, allowed)} {takes}")
        if key in options:
            raise BadInput(f"{key} is written twice in {name!r}; write it once.")
        options[key] = value
    return plain, options
