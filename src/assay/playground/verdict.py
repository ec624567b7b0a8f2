"""What one attack on one image can say, and what it cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from assay.wording import norm


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a verdict rests on; `crossed` says that the model erred at some point on the way, `saved` in 8 bits.

    `unscored` counts the points at which the model had no scores: NaN or infinite ones.
    """

    attack: str
    family: str
    broken: bool
    crossed: bool
    forwards: int
    backwards: int
    queries: int
    saved: bool
    eps: str
    norm: str
    targeted: bool
    budget: float
    random: bool
    unscored: int = 0


def verdict(facts: Facts, certified: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the state (broken, not broken, proved, not judged) and a sentence on what it rests on."""
    if facts.broken:
        return {"state": "broken", "text": _broken(facts)}
    radius = (certified or {}).get("radius")
    if radius is not None and radius >= facts.budget:
        return {
            "state": "proved",
            "text": f"Not broken, and proved for this image: no change of {norm(facts.norm)} {facts.eps} alters "
            f"the answer. It rests on {certified and certified['how']}, and says nothing of other images.",
        }
    if facts.unscored:
        # a search that was blind is no evidence of a model that stands
        return {"state": "not judged", "text": _blind(facts)}
    return {"state": "not broken", "text": _withstood(facts)}


def _broken(facts: Facts) -> str:
    what = "the model answers the class that was asked for" if facts.targeted else "the model errs on it"
    text = (
        f"Broken: this image is the proof, it lies within {norm(facts.norm)} {facts.eps} and {what}. It rests on "
        f"{_passes(facts)} of {facts.attack}, and says nothing of other images."
    )
    if facts.random:
        text += " The model draws its answers: another draw may answer otherwise."
    if not facts.saved:
        text += " Rounded to 8 bits the image no longer does it."
    return text


def _blind(facts: Facts) -> str:
    return (
        f"Not judged: the model's scores were NaN or infinite at {facts.unscored:,} of the points that {facts.attack} "
        f"asked about, in {_passes(facts)}, so that it could not search. A model that gives numbers there may break."
    )


def _withstood(facts: Facts) -> str:
    if facts.family in ("score", "label"):
        text = (
            f"Not broken within {facts.queries:,} queries by {facts.attack}, which sees "
            f"{'labels' if facts.family == 'label' else 'scores'} alone: no proof; more queries, or an attack that "
            "sees gradients, may break it."
        )
    elif facts.family == "baseline":
        text = f"Not broken by {facts.attack}, which does not search: no proof, and hardly evidence. Try pgd or apgd."
    else:
        text = (
            f"Not broken by {facts.attack} with {_passes(facts)}: no proof; a stronger attack, more steps or another "
            "start may break it."
        )
    if facts.crossed:
        text += " On its way the attack met points at which the model erred, and its result is another one."
    return text


def _passes(facts: Facts) -> str:
    return f"{facts.forwards:,} forward and {facts.backwards:,} backward passes"
