"""What a visitor asks for, as it comes, and what it means for a model and an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from assay.core.compose import Method, for_norm
from assay.core.goal import Goal
from assay.core.result import Keeps
from assay.core.threat import L0, L1, L2, Linf, Threat
from assay.models import Classifier
from assay.vocabulary import Question

THREATS: Mapping[str, Callable[[Any], Threat]] = {"linf": Linf, "l2": L2, "l1": L1, "l0": L0}
DATA, SAMPLE = "image.npz", "image.npz/00000"
"""The file that a visitor can download to attack the same image elsewhere, and the image's id in it."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """What a visitor asks for; `model` is the name that `load_model` takes, defences included.

    `label` is what the image shows, where that is known; `passes` is the most that may be spent, forward and backward.
    """

    model: str
    attack: str
    norm: str
    eps: str
    goal: int | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    smallest: bool = False
    label: int | None = None
    passes: int = 20_000
    allow_pickle: bool = False


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What an `Ask` means for a model and an image `x` `[1, C, H, W]`; `y` is the model's own answer to it."""

    ask: Ask
    model: Classifier
    x: Tensor
    y: Tensor
    threat: Threat
    goal: Goal
    method: Method
    options: Mapping[str, Any]
    question: Question

    @property
    def by_size(self) -> bool:
        """Whether the attack looks for the smallest change by itself."""
        return for_norm(self.method, self.ask.norm).keeps is Keeps.SMALLEST
