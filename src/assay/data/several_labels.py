"""Data whose images have several labels each: studies take one, and say where the others can go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

SEVERAL_LABELS = (
    "Studies take one label per image. Multi-label models are attacked in Python, on tensors: assay.attack(method, "
    "model, x, y, threat, goal=assay.MultiLabel(y)) with multi-hot labels y [N, K]."
)
_SEPARATORS = ";|,"


def lists_of_labels(names: Sequence[str]) -> str | None:
    """Return the first of the class names that is a list such as `cat;dog`, or None.

    Names may hold such signs themselves ("tench, Tinca tinca"). In lists the parts return: half of them or more are in
    several of the names.
    """
    for sign in _SEPARATORS:
        parts = Counter(part.strip() for name in dict.fromkeys(names) for part in set(name.split(sign)))
        listed = [name for name in names if sign in name]
        if listed and 2 * sum(count > 1 for count in parts.values()) >= len(parts):
            return listed[0]
    return None
