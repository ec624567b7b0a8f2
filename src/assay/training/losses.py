"""Training losses: each a frozen value `(model, x, y, draws) -> [N]`, one number per sample."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Protocol

from torch import Tensor, nn
from torch.nn import functional

from assay.core.draws import Draws
from assay.core.errors import BadInput


class Loss(Protocol):
    """What training descends: the loss of each sample, `[N]`.

    A loss calls the model itself, as often as its method needs; random parts come from `draws`. Its `repr` must
    say all its parameters: a checkpoint is only continued under an equal loss.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss `[N]` of the samples `x` (float32 `[N, C, H, W]` in [0, 1]) with targets `y`."""

    @property
    def passes(self) -> int:
        """Forwards of one training step per sample, those on other networks included."""

    def during(self, share: float, /) -> Loss:
        """Return the loss once a `share` of the training is done: most are the same throughout."""


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of `softmax(logits / temperature)` with labels (int64 `[N]`) or soft labels (`[N, K]`).

    On logits this is the negative log-likelihood. A temperature above 1 trains the networks of defensive
    distillation (Papernot et al. 2016).
    """

    temperature: float = 1.0

    passes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse a temperature that nothing can be divided by."""
        if not 0 < self.temperature < math.inf:
            raise BadInput(f"temperature is {self.temperature}; expected a positive number such as 100.")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`; nothing is drawn."""
        return functional.cross_entropy(model(x) / self.temperature, y, reduction="none")

    def during(self, share: float, /) -> CrossEntropy:
        """Return the loss itself."""
        return self
