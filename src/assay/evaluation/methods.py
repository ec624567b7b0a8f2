"""What a manifest tells of the attack of each cell, so that whoever reads its records has to build none."""

# shape: apart from its readers, which import no torch

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.attacks import ATTACKS, build
from assay.core.compose import Method, for_norm
from assay.core.compose import stages as stage_names
from assay.core.search import Keeps
from assay.vocabulary import Order, Question


def told_method(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether a cell (as the manifest keeps it) `stops` at success, and its attack's `stages` by name."""
    method = _method(cell)
    names = stage_names(method) if method is not None else ()
    return {"stops": _stops(cell, method), "stages": list(names) if len(names) > 1 else []}


def stops_at_success(cell: Mapping[str, Any]) -> bool:
    """Whether the counts of a cell (as the manifest keeps it) are those up to a sample's first success."""
    return _stops(cell, _method(cell))


def _stops(cell: Mapping[str, Any], method: Method | None) -> bool:
    asked = cell["question"] == Question.WORST_CASE.value and cell["order"] == Order.ASCENDING.value
    return asked and method is not None and method.keeps is Keeps.FIRST


def _method(cell: Mapping[str, Any]) -> Method | None:
    options = dict(cell["specs"]["attack"])
    name = options.pop("attack")
    # what a file holds is not asked for: the records must be readable without it; and on a surrogate nothing stops at
    # a success
    if name not in ATTACKS or "surrogate" in options:
        return None
    return for_norm(build(name, **options), cell["norm"])
