"""What a certificate is: a method that proves, for each image, that nothing inside a budget changes a right answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from assay.core.draws import Draws
from assay.core.oracle import Cost
from assay.core.problem import Problem
from assay.models import Classifier

ABSTAINED = -1
"""The prediction of a smoothed classifier that does not know: no class."""


class Certificates(NamedTuple):
    """What a method proved of N images at B budgets, about the model that it was given as a whole.

    `certified` (bool `[B, N]`): the model is right about the image, and about every allowed change of that size; this
    can only fall as the budget grows. `prediction` (int64 `[N]`) is the model's answer for the image itself, -1 where
    it abstains. `lower` (float64 `[B, N]`, None where the method has none) is a lower bound of how far the logit of the
    label leads every other one inside the budget: NaN where it was not computed. `radius` (float64 `[N]`, None where
    the method has none) is the largest size in the threat's norm that is certified. `cost` is what it took.
    """

    certified: Tensor
    prediction: Tensor
    lower: Tensor | None
    radius: Tensor | None
    cost: Cost


class Certificate(Protocol):
    """A method of certification with its options: a frozen dataclass.

    `alpha` is the probability, per image, that a statement is false: 0 for a proof.
    """

    @property
    def alpha(self) -> float:
        """The failure probability per image; 0 for a deterministic method."""

    def check(self, model: Classifier, problem: Problem) -> None:
        """Raise `BadInput` for a model or threat that the method says nothing about, naming the layer and the way out.

        `problem` holds a few images; nothing is computed that costs more than one of them.
        """

    def prove(self, model: Classifier, problem: Problem, budgets: Sequence[float], draws: Draws) -> Certificates:
        """Return what is proved of the images of `problem` at each of `budgets`, smallest first.

        The goal is `Untargeted`; `problem.threat` gives norm, box and grid, and `problem.known` what the model said
        about the images themselves. A budget is certified with the tolerance that attacks are judged by
        (`core.threat`): an adversarial image that Assay accepts never contradicts a sound proof.
        """


@dataclasses.dataclass(frozen=True)
class CertificateEntry:
    """A line of the table: `make(**options)` returns the method; `norms` are those that it speaks of.

    `models` says in words which models it can be asked about, `statistical` that statements hold with probability
    1 - alpha each, `bounds` that it bounds the logits of the network as it is deployed: it can go before an attack.
    `passes` are those that an image usually costs at a budget, for estimates of time alone.
    """

    make: type
    summary: str
    paper: str
    paper_id: str
    norms: tuple[str, ...]
    models: str
    statistical: bool = False
    bounds: bool = False
    passes: int = 100
    version: int = 1
