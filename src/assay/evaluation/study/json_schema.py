"""The JSON Schema of a study file, for editors that complete and check YAML while it is typed."""

from __future__ import annotations

from typing import Any

from assay.attacks import ATTACKS
from assay.core.norms import NORMS
from assay.core.objective import OBJECTIVES
from assay.evaluation.study import patch_attack, universal_attack
from assay.evaluation.study.attacks import general_options

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
            {"anyOf": [{"enum": list(ATTACKS)}, *(_attack(name) for name in ATTACKS), _patch(), _universal()]}
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


def _attack(name: str) -> dict[str, Any]:
    options = {option: _option(default) for option, default in ATTACKS[name].options.items() if option != "keeps"}
    options.update({option: {"enum": list(words)} for option, words in ATTACKS[name].choices.items()})
    if "objective" in options:
        tempered = {"type": "string", "pattern": r"^cross_entropy/[0-9.]+(e[+-]?[0-9]+)?$"}
        options["objective"] = {"anyOf": [{"enum": list(OBJECTIVES)}, tempered]}
    described = {"const": name, "description": f"{ATTACKS[name].summary} ({ATTACKS[name].paper})"}
    general = {option: _general(option, value) for option, value in general_options(name).items()}
    digest = {"surrogate_digest": {"type": "string"}}
    return _mapping({"attack": described, **general, **digest, **options}, "attack")


def _general(option: str, default: Any) -> dict[str, Any]:
    if option == "surrogate":
        return {"type": "string", "description": "The model it is made on, or several joined by +."}
    return {**_option(default), **({"maximum": 1} if option == "diversity" else {})}


def _patch() -> dict[str, Any]:
    described = {
        "const": patch_attack.NAME,
        "description": f"{patch_attack.ENTRY.summary} ({patch_attack.ENTRY.paper})",
    }
    properties = {
        "attack": described,
        "file": {"type": "string", "description": "The patch, as `assay patch train` writes it."},
        "placement": {**_COUNT, "description": "The number of the first random placement."},
        "places": {**_COUNT, "description": "How many placements are tried."},
        "stride": {**_COUNT, "description": "All placements of a grid with so many pixels between them."},
        "offsets": {"enum": list(patch_attack.OFFSETS)},
        "at": {"type": "string", "pattern": "^ *[0-9]+ *, *[0-9]+ *$", "description": "A fixed place X,Y."},
        "digest": {"type": "string"},
        "restarts": _COUNT,
    }
    return _mapping(properties, "attack", "file")


def _universal() -> dict[str, Any]:
    entry = universal_attack.ENTRY
    described = {"const": universal_attack.NAME, "description": f"{entry.summary} ({entry.paper})"}
    file = {"type": "string", "description": "The change, as `assay universal train` writes it."}
    return _mapping({"attack": described, "file": file, "digest": {"type": "string"}}, "attack", "file")


def _option(default: Any) -> dict[str, Any]:
    if isinstance(default, bool):
        return {"type": "boolean", "default": default}
    if isinstance(default, int):
        return {**_COUNT, "default": default}
    return {"type": "number", "minimum": 0, **({} if default is None else {"default": default})}


def _short_or(key: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "string"}, _mapping({key: {"type": "string"}, **more}, key)]}


def _one_or_more(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def _mapping(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
