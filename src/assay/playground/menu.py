"""What a visitor can choose from, as the page needs it: attacks with their options, defences, budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.attacks import ATTACKS, AttackEntry
from assay.attacks.options import Kind, Option
from assay.core.errors import BadInput
from assay.core.objective import OBJECTIVES
from assay.core.oracle import Access
from assay.defenses.chain import parse_chain
from assay.defenses.table import DEFENSES
from assay.models import Classifier
from assay.playground.budgets import NORMS
from assay.vocabulary import Question

QUESTION = "question"
_TYPES = {Kind.WHOLE: "int", Kind.NUMBER: "float", Kind.SWITCH: "bool", Kind.CHOICE: "choice", Kind.OBJECTIVE: "choice"}
# the page has its own switch for the first
_LEFT_OUT = ("smallest",)


def attacks() -> list[dict[str, Any]]:
    """Return every attack of the table that works in one of the norms."""
    listed = []
    for name, entry in ATTACKS.items():
        norms = [norm for norm in NORMS if norm in entry.norms]
        if norms and not entry.file:
            listed.append({
                "name": name, "title": entry.summary, "norms": norms, "gradient": entry.access is Access.GRADIENT,
                "options": _options(entry), "source": f"arXiv:{entry.paper_id}" if entry.paper_id else entry.paper,
                "family": entry.family, "targets": "targeted" in entry.goals,
            })  # fmt: skip
    return listed


def _options(entry: AttackEntry) -> list[dict[str, Any]]:
    told = [_option(name, one) for name, one in entry.all_options.items() if one.kind in _TYPES]
    question = {
        "name": QUESTION, "type": "choice", "default": Question.WORST_CASE.value,
        "choices": [one.value for one in Question],
        "help": "worst_case ends at the first success, as_attacked shows the last point.",
    }  # fmt: skip
    return [*(one for one in told if one["name"] not in _LEFT_OUT), question]


def _option(name: str, one: Option) -> dict[str, Any]:
    plain = {"name": name, "type": _TYPES[one.kind], "default": one.default, "help": one.about}
    choices = list(OBJECTIVES) if one.kind is Kind.OBJECTIVE else list(one.choices)
    return {**plain, "choices": choices} if choices else plain


def defences() -> list[dict[str, str]]:
    """Return the defences that work without being fitted."""
    return [
        {"name": name, "title": entry.summary}
        for name, entry in DEFENSES.items()
        if not any(step.needs_fit for step in parse_chain(name))
    ]


def kind_of(model: Classifier, classes: int) -> str:
    """Return what the page gives to draw or to upload for a model: digits, picture or other."""
    if model.input_shape == (1, 28, 28) and classes == 10:
        return "digits"
    channels = model.input_shape[0] if model.input_shape else model.channels or 3
    return "picture" if channels == 3 else "other"


def read_options(name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], Question]:
    """Return the options that differ from their defaults, checked, and the question.

    Raises `BadInput` for an unknown attack, option or value.
    """
    from assay.attacks import build

    entry = ATTACKS.get(name)
    if entry is None or entry.file:
        build(name)
        raise BadInput(f"The attack {name!r} needs a file; the playground has those of `assay attacks` that need none.")
    rest = dict(given)
    written = rest.pop(QUESTION, Question.WORST_CASE.value)
    if written not in [one.value for one in Question]:
        raise BadInput(f"question is {written!r}, expected {', '.join(one.value for one in Question)}.")
    chosen = {}
    for option, value in rest.items():
        if value is None:
            continue
        entry.read(name, option, value)
        if value != entry.all_options[option].default:
            chosen[option] = value
    return chosen, Question(written)
