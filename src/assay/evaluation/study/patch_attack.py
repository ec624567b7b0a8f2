"""The attack `patch` of a study: a trained patch, named by its file, pasted over every image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.attacks.patch import Pasted, Place
from assay.core.compose import Method, Restarts
from assay.core.errors import BadInput, did_you_mean
from assay.core.oracle import Access
from assay.patches.patch import Patch

NAME = "patch"
OFFSETS = ("all", "published")
_DEFAULTS: dict[str, Any] = {
    "file": None, "placement": 1, "places": 1, "stride": None, "offsets": "all", "at": None, "digest": None,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PatchEntry:
    """The line of the attack in the table of attacks; see `Pasted` for what the options do."""

    version: int = 1
    norms: tuple[str, ...] = ("l0",)
    summary: str = "paste a trained patch; the budget counts the values it covers"
    paper: str = "Brown et al. 2017"
    access: Access = Access.LABELS
    family: str = "label"

    @property
    def options(self) -> dict[str, Any]:
        """The settings a user may change, with their defaults."""
        return dict(_DEFAULTS)

    @property
    def general(self) -> dict[str, Any]:
        """The options that wrap the attack, with the value that leaves it as it is."""
        return {"restarts": 1}


ENTRY = PatchEntry()


def check_option(option: str, value: Any) -> None:
    """Raise `BadInput` for an option, or a value, that the attack does not take."""
    where = f"Attack 'patch': {option} is {value!r}"
    if option == "restarts" or option in ("placement", "places", "stride"):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not whole and not (option == "stride" and value is None):
            raise BadInput(f"{where}, expected a whole number of 1 or more.")
    elif option == "offsets":
        if value not in OFFSETS:
            raise BadInput(f"{where}, expected one of {', '.join(OFFSETS)}.{did_you_mean(str(value), OFFSETS)}")
    elif option == "at":
        parse_place(value)
    elif option in ("file", "digest"):
        if value is not None and not isinstance(value, str):
            raise BadInput(f"{where}, expected text.")
    else:
        known = [*ENTRY.options, "restarts"]
        raise BadInput(
            f"Attack 'patch' has no option {option!r}.{did_you_mean(option, known)} Its options: {', '.join(known)}."
        )


def parse_place(written: Any) -> Place | None:
    """Return the (row, column) of a place written `X,Y` (column, then row, in pixels from the top left); None for none.

    Raises `BadInput` for what is no such pair.
    """
    if written is None:
        return None
    parts = written.split(",") if isinstance(written, str) else written
    try:
        x, y = (int(part) for part in parts)
    except (TypeError, ValueError):
        raise BadInput(
            f"The place {written!r} is none; expected X,Y in pixels from the top left, such as 10,20."
        ) from None
    return y, x


def load(options: Mapping[str, Any]) -> Patch:
    """Return the patch that options name. Raises `BadInput` where there is none, or another than `digest` says."""
    if not options.get("file"):
        raise BadInput("Attack 'patch' needs a file: patch:file=toaster.safetensors (`assay patch train` makes one).")
    patch = Patch.load(Path(options["file"]))
    wanted = options.get("digest")
    if wanted and patch.digest != wanted:
        raise BadInput(
            f"{options['file']} is the patch {patch.digest}, expected {wanted}. Leave patches alone in a run."
        )
    return patch


def digest(options: Mapping[str, Any]) -> str:
    """Return the name of what the patch that options name does to an image."""
    return load(options).digest


def method(options: Mapping[str, Any], image: Place) -> Method:
    """Return the attack for images of `image` (height, width) pixels."""
    whole = {**ENTRY.options, **options}
    patch = load(whole)
    attack = Pasted(
        patch.pixels, patch.mask, whole["placement"], whole["places"], whole["stride"],
        whole["offsets"] == "published", parse_place(whole["at"]), image,
    )  # fmt: skip
    restarts = options.get("restarts", 1)
    return attack if restarts == 1 else Restarts(attack, restarts)
