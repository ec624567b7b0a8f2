"""The JSON Schema of a study file, for editors that complete and check YAML while it is typed."""

from __future__ import annotations

from typing import Any

from assay.attacks import ATTACKS, AttackEntry
from assay.core.norms import NORMS
from assay.evaluation.study.attacks import STUDY_ATTACKS

_COUNT = {"type": "integer", "minimum": 1}
_BUDGET = {
    "description": "A budget: '8/255', 0.031 (pixels in [0, 1]) or 'normalized 0.02' (the model's own units).",
    "anyOf": [
        {"type": "number", "minimum": 0},
        {
            "type": "string",
            "pattern": r"^((normalized|pixel) +)?\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?( */ *\d+(\.\d*)?)?$",
        },
    ],
}


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a study; attacks and their options come from the table."""
    grid = _grid_keys()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Assay study",
        **_mapping(
            {
                "study": {
                    "type": "string",
                    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
                    "description": "The study's name, and that of its run directory.",
                },
                "audit": {
                    "description": "How closely the robust numbers are audited (quick).",
                    "enum": ["off", "quick", "standard", "thorough", False],
                },
                **grid,
                "grids": {
                    "description": "Several grids; each takes the keys it lacks from the top.",
                    "type": "array",
                    "minItems": 1,
                    "items": _mapping(grid),
                },
            },
            "study",
        ),
    }


def _grid_keys() -> dict[str, Any]:
    return {
        "models": _one_or_more(_short_or("model", {"outputs": {"enum": ["logits", "probabilities"]}})),
        "data": _one_or_more(_short_or("source", _selection())),
        "threats": _one_or_more(_mapping(_threat(), "norm", "eps")),
        "attacks": _one_or_more(
            {"anyOf": [{"enum": list(ATTACKS)}, *(_attack(name, entry) for name, entry in STUDY_ATTACKS.items())]}
        ),
        "question": {
            "enum": ["worst_case", "as_attacked"],
            "description": "worst_case: robust accuracy; only survivors go on. as_attacked: one attack alone.",
        },
        "goal": {"type": "string", "pattern": "^(untargeted|targeted +.+|out-of-top +[1-9][0-9]*)$"},
        "order": {
            "enum": ["ascending", "descending"],
            "description": "How a worst case walks through the budgets; descending takes fewer passes.",
        },
        "seed": {"type": "integer"},
        "chunk": {**_COUNT, "description": "Samples that are done and stored together."},
    }


def _threat() -> dict[str, Any]:
    return {
        "norm": {"enum": list(NORMS)},
        "eps": _one_or_more(_BUDGET),
        "box": {"type": "boolean", "description": "Whether images stay in [0, 1]."},
        "grid": {**_COUNT, "type": ["integer", "null"], "description": "255 makes every judged image an 8-bit one."},
        "mask": {
            "type": "string",
            "description": "Where values may change: a picture, a .npy file, or a folder with one per sample.",
        },
        "channels": {
            **_one_or_more({"type": "integer", "minimum": 0}),
            "description": "The channels that may change, numbered from 0.",
        },
        "mask_digest": {"type": "string"},
        "mask_share": {"type": "number"},
    }


def _selection() -> dict[str, Any]:
    return {
        "limit": {**_COUNT, "description": "The first so many samples."},
        "sample": {**_COUNT, "description": "So many samples, drawn evenly over the classes."},
        "per_class": {**_COUNT, "description": "So many samples of each class."},
        "ids": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "seed": {"type": "integer"},
        "labels": {"enum": ["predicted"], "description": "The model's own answers are the labels."},
        "part": {
            "type": "string", "pattern": "^(held-out|rest) [1-9][0-9]*$",
            "description": "'held-out 500': so many samples, evenly over the classes; 'rest 500': all others.",
        },
    }  # fmt: skip


def _attack(name: str, entry: AttackEntry) -> dict[str, Any]:
    described = {"const": name, "description": f"{entry.summary} ({entry.paper})"}
    options = {option: one.schema() for option, one in entry.all_options.items()}
    return _mapping({"attack": described, **options}, "attack", *(["file"] if entry.file else []))


def _short_or(key: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "string"}, _mapping({key: {"type": "string"}, **more}, key)]}


def _one_or_more(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def _mapping(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
