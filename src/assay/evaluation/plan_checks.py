"""What a plan refuses: budgets without a unit, attacks that need more than the model gives, masks of one name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeGuard

from assay.attacks import fitting
from assay.core.budget import NORMALIZED
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.evaluation.study.attacks import STUDY_ATTACKS
from assay.evaluation.study.spec import Grid, ThreatSpec
from assay.models import Classifier
from assay.wording import plural

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def check_units(grid: Grid, model: Classifier) -> None:
    """Raise `BadInput` for normalised budgets of a model whose normalisation is unknown."""
    for threat in grid.threats:
        if threat.eps[0].unit == NORMALIZED and model.std is None:
            raise BadInput(
                f"The budget {threat.eps[0].written!r} is in the model's normalised units, but the normalisation of "
                f"{model.spec} is unknown. Put it inside the model (assay.models.Normalized(module, mean, std)), or "
                "write the budget in pixels, such as 8/255."
            )


def check_access(grid: Grid, model: Classifier) -> None:
    """Raise `BadInput` for an attack that needs more than the model gives, naming those that fit."""
    for attack in grid.attacks:
        # images made elsewhere are only judged here
        needs = Access.LABELS if attack.options.get("surrogate") else STUDY_ATTACKS[attack.attack].access
        if needs > model.access:
            fit = dict.fromkeys(name for threat in grid.threats for name in fitting(model.access, threat.norm))
            raise BadInput(
                f"{attack.attack} needs {needs.name.lower()}, and {model.spec} gives {model.access.name.lower()} "
                f"alone. Attacks that fit: {', '.join(fit) or 'none'}; or make the images on another model: "
                f"{attack.attack}:surrogate=MODEL."
            )


def mask_notes(threats: Sequence[ThreatSpec]) -> list[str]:
    """Return notes on masks that limit nothing. Raises `BadInput` for two masks of one name."""
    digests: dict[str, str | None] = {}
    for threat in threats:
        if digests.setdefault(threat.label, threat.mask_digest) != threat.mask_digest:
            raise BadInput(f"Two masks go by the name of {threat.label!r}. Give them different file names.")
    whole = [threat.label for threat in threats if threat.mask_share == 1]
    return [f"{label}: every value may change, so that the mask limits nothing." for label in whole]


def short_steps(method: object, called: str = "") -> Iterator[str]:
    """Yield a warning for every attack of a method whose steps do not reach the edge of the ball, even in a line.

    `called` is the name it goes by, its class by default.
    """
    length, moves = getattr(method, "step_length", None), getattr(method, "iterations", getattr(method, "steps", 0))
    if length is not None and moves * length < 1 - 1e-9:
        way = f"{100 * moves * length:.2g} % of the way to the edge of the ball"
        yield (
            f"{called or type(method).__name__}: {plural(moves, 'step')} of {length:.3g} budgets lead at most {way}, "
            "so that its numbers say little about the budget. step_size is a share of the budget, not of the range of "
            f"pixels: leave it out, or give {1 / moves:.3g} or more."
        )
    parts = [getattr(method, field.name) for field in dataclasses.fields(method)] if _is_made(method) else []
    for part in parts:
        for one in part if isinstance(part, tuple) else (part,):
            # a choice by norm is a pair of a name and a method
            for inner in one if isinstance(one, tuple) else (one,):
                if _is_made(inner):
                    yield from short_steps(inner, called)


def _is_made(value: object) -> TypeGuard[DataclassInstance]:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
