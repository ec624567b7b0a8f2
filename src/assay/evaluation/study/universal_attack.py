"""The attack `universal` of a study: a trained universal perturbation, named by its file, added to every image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.attacks.universal import Added
from assay.core.compose import Method
from assay.core.errors import BadInput, did_you_mean
from assay.core.oracle import Access
from assay.patches.universal import Universal

NAME = "universal"


@dataclasses.dataclass(frozen=True)
class UniversalEntry:
    """The line of the attack in the table of attacks."""

    version: int = 1
    norms: tuple[str, ...] = ("linf", "l2", "l1")
    summary: str = "add one trained change to every image"
    paper: str = "Moosavi-Dezfooli et al. 2017"
    access: Access = Access.LABELS
    family: str = "transfer"

    @property
    def options(self) -> dict[str, Any]:
        """The settings a user may change, with their defaults."""
        return {"file": None, "digest": None}

    @property
    def general(self) -> dict[str, Any]:
        """The options that wrap the attack: none, for there is one change to try."""
        return {}


ENTRY = UniversalEntry()


def check_option(option: str, value: Any) -> None:
    """Raise `BadInput` for an option, or a value, that the attack does not take."""
    if option not in ENTRY.options:
        known = list(ENTRY.options)
        told = did_you_mean(option, known)
        raise BadInput(f"Attack 'universal' has no option {option!r}.{told} Its options: {', '.join(known)}.")
    if value is not None and not isinstance(value, str):
        raise BadInput(f"Attack 'universal': {option} is {value!r}, expected text.")


def load(options: Mapping[str, Any]) -> Universal:
    """Return the change that options name. Raises `BadInput` where there is none, or another than `digest` says."""
    if not options.get("file"):
        raise BadInput("Attack 'universal' needs a file: universal:file=X.safetensors (`assay universal train`).")
    found = Universal.load(Path(options["file"]))
    wanted = options.get("digest")
    if wanted and found.digest != wanted:
        raise BadInput(f"{options['file']} is {found.digest}, expected {wanted}. Leave perturbations alone in a run.")
    return found


def digest(options: Mapping[str, Any]) -> str:
    """Return the name of the change that options name."""
    return load(options).digest


def method(options: Mapping[str, Any], image: tuple[int, int]) -> Method:
    """Return the attack; `image` (height, width) must be the size that the change was made for."""
    return Added(load(options).change)
