"""Training losses: each a frozen value `(model, x, y, draws) -> [N]`, one number per sample."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Protocol

from torch import Tensor, nn
from torch.nn import functional

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.defenses.smoothing import noisy


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


@dataclasses.dataclass(frozen=True)
class GaussianAugmentation:
    """Cross-entropy at a noisy copy of each image, as `defenses.smoothing.Smoothed` draws them.

    Cohen et al. 2019. `sigma` is the deviation of the noise, on [0, 1]; with `clip` copies are cut to [0, 1].
    """

    sigma: float
    clip: bool = True

    passes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse noise of no size."""
        if not 0 < self.sigma <= _MOST_NOISE:
            raise BadInput(f"sigma is {self.sigma}; expected a number above 0, at most {_MOST_NOISE:g}, such as 0.25.")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        return functional.cross_entropy(model(noisy(x, draws, self.sigma, clip=self.clip)), y, reduction="none")

    def during(self, share: float, /) -> GaussianAugmentation:
        """Return the loss itself."""
        return self


_MOST_NOISE = 8.0
