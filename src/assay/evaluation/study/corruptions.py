"""How a study asks for corruptions: `corruptions: standard`, names, or names and severities; and what that measures.

Each is a cell of corrupted data without an attack: an average case, which no audit judges.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from assay.core.errors import BadInput, did_you_mean
from assay.data.corruption import NAMES, Corruption, check_severity, known_corruption, set_for, take_view
from assay.data.imagenet_c import SCHEME, folders
from assay.evaluation.study.errors import Misplaced

STANDARD, ALL = "standard", "all"
_GROUPS = (STANDARD, ALL)
_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


def _as_names(value: Any) -> Any:
    given = value.split(",") if isinstance(value, str) else value
    return (
        [one.strip() for one in given] if isinstance(given, list) and all(isinstance(o, str) for o in given) else given
    )


def _as_severities(value: Any) -> Any:
    """Read `1-3,5` as (1, 2, 3, 5)."""
    if value is None or isinstance(value, bool):
        return value
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    read: list[int] = []
    for part in parts:
        match = _RANGE.fullmatch(str(part).strip())
        if match is None:
            raise BadInput(f"{value!r} are no severities; expected 1 to 5, such as 3, [1, 3, 5] or '1-5'.")
        first, last = int(match[1]), int(match[2] or match[1])
        read += range(check_severity(first, 1), check_severity(last, 1) + 1)
    if not read:
        raise BadInput(f"{value!r} names no severity; expected 1 to 5, such as 3, [1, 3, 5] or '1-5'.")
    return tuple(sorted(set(read)))


_NAMES: dict[str, Any] = {"anyOf": [{"enum": [*_GROUPS, *NAMES]}, {"type": "array", "items": {"enum": list(NAMES)}}]}
_LEVELS: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 5},
        {"type": "string", "pattern": r"^ *[1-5]( *- *[1-5])?( *, *[1-5]( *- *[1-5])?)* *$"},
        {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 5}, "minItems": 1},
    ]
}


class CorruptionsSpec(BaseModel):
    """Corruptions by name: `standard` are those that the mean is over, `all` the validation ones as well.

    Without `severities` every corruption has its usual ones: 1 to 5, and of MNIST-C the published one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: Annotated[tuple[str, ...], BeforeValidator(_as_names)] = Field(
        (STANDARD,), min_length=1, json_schema_extra=_NAMES
    )
    severities: Annotated[tuple[int, ...] | None, BeforeValidator(_as_severities)] = Field(
        None, json_schema_extra=_LEVELS
    )

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        read: list[str] = []
        for place, kind in enumerate(kinds):
            if kind in _GROUPS:
                if len(kinds) > 1:
                    raise Misplaced((place,), f"{kind} stands for a list itself. Write it alone, or names alone.")
                return (kind,)
            try:
                read.append(known_corruption(kind))
            except BadInput as error:
                near = did_you_mean(kind, _GROUPS)
                raise Misplaced((place,), f"{error}{near} Or write standard, or all.") from error
        return tuple(dict.fromkeys(read))

    def plain(self) -> dict[str, Any]:
        """Return the plain values that are read back to an equal spec."""
        return self.model_dump(mode="json", exclude_none=True)


def lifted(value: Any) -> Any:
    """Read the short form of corruptions, names alone, as the long one."""
    return {"kinds": value} if isinstance(value, (str, list, tuple)) else value


def corruptions_of(spec: CorruptionsSpec, source: str, shape: Sequence[int] | None) -> list[Corruption]:
    """Return what a study measures on a source with images of `shape` (C, H, W): of a tree, what it holds.

    Raises `BadInput` for a corruption that the set of this shape does not have, and for none at all.
    """
    chosen = set_for(None if shape is None else tuple(shape))
    group = spec.kinds[0] if spec.kinds[0] in _GROUPS else None
    kinds = {STANDARD: chosen.standard, ALL: chosen.kinds}.get(group or "", spec.kinds)
    foreign = [kind for kind in kinds if kind not in chosen.allowed]
    if foreign:
        raise BadInput(
            f"{foreign[0]} is no corruption of {chosen.name}, which belongs to {source}. "
            f"There are: {', '.join(chosen.kinds)}."
        )
    wanted = [
        Corruption(kind, severity)
        for kind in kinds
        for severity in spec.severities or chosen.usual[kind]
        # one that has a single severity is measured at that one
        if severity in chosen.allowed[kind]
    ]
    if is_tree(source):
        there = folders(source.removeprefix(SCHEME))
        missing = {one.kind for one in wanted} - {one.kind for one in there}
        if missing and group is None:
            raise BadInput(f"{source} has no {', '.join(sorted(missing))}. Leave them out.")
        wanted = [one for one in wanted if one in there]
    if not wanted:
        levels = "" if spec.severities is None else f" at severity {', '.join(map(str, spec.severities))}"
        raise BadInput(f"{source} has none of {', '.join(kinds)}{levels}. Choose others.")
    return wanted


def is_tree(source: str) -> bool:
    """Whether a source is an ImageNet-C tree: it has corrupted images alone."""
    return source.startswith(SCHEME) and take_view(source)[1] is None
