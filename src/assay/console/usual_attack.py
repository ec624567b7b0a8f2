"""The attack of a command that names none: one that fits what its models give."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from assay.console.output import say

if TYPE_CHECKING:
    from assay.console.flags import StudyFlags
    from assay.core.oracle import Access
    from assay.evaluation.loader import Loader

_PREFERRED = {
    "gradient": ("pgd", "fmn"),
    "scores": ("square:queries=1000", "one-pixel"),
    "labels": ("hop-skip-jump:queries=1000",),
}
"""By what a model gives, the first that works in the norm is taken."""


def with_usual_attack(flags: StudyFlags, loader: Loader) -> StudyFlags:
    """Return flags with an attack that fits the models, which `loader` keeps; as they are where nothing is lacking.

    Raises `BadInput` where a model cannot be loaded.
    """
    from assay.evaluation.study.spec import ModelSpec

    complete = flags.study is not None or flags.attack or not (flags.model and flags.data and flags.eps)
    if complete or flags.corruptions or set(flags.certify or ()) - {"first", "auto", "off"}:
        return flags
    outputs = {"outputs": flags.outputs.value} if flags.outputs else {}
    access = min(loader.model(ModelSpec.model_validate({"model": one, **outputs})).access for one in flags.model or ())
    chosen = usual_attack(access, flags.norm.value if flags.norm else "linf")
    gives = "gradients" if access.name == "GRADIENT" else f"{access.name.lower()} alone"
    say(f"No --attack is named: {chosen} fits a model that gives {gives}.")
    return dataclasses.replace(flags, attack=[chosen])


def usual_attack(access: Access, norm: str) -> str:
    """Return the attack that is taken in a norm where none is named."""
    from assay.attacks import fitting

    fits = fitting(access, norm)
    preferred = [one for one in _PREFERRED[access.name.lower()] if one.partition(":")[0] in fits]
    return next(iter((*preferred, *fits)))
