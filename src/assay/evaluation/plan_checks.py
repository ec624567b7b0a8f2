"""What a plan refuses: budgets without a unit, attacks that need more than the model gives, masks of one name."""

from __future__ import annotations

from collections.abc import Sequence

from assay.attacks import fitting
from assay.core.budget import NORMALIZED
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.evaluation.study.attacks import STUDY_ATTACKS
from assay.evaluation.study.spec import Grid, ThreatSpec
from assay.models import Classifier


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
