"""Data whose images have several labels each: studies take one, and say where the others can go."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

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
