"""Training losses: each a frozen value `(model, x, y, draws) -> [N]`, one number per sample."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Protocol

import torch
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


@dataclasses.dataclass(frozen=True)
class Masked:
    """Cross-entropy of images with `count` squares of `size` x `size` pixels, at random places, set to `fill`.

    What PatchCleanser's networks are trained with (Xiang et al. 2022; cutout of DeVries and Taylor 2017): they meet
    images under two masks later. Squares lie inside the image, and may overlap. Raises `BadInput` for sizes that cannot
    be, and for squares larger than the images.
    """

    size: int
    count: int = 2
    fill: float = 0.0

    passes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse squares that are none."""
        for name in ("size", "count"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; expected a whole number of at least 1.")
        if not 0 <= self.fill <= 1:
            raise BadInput(f"fill is {self.fill}; expected a grey level from 0 to 1.")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        """Return the loss of each sample, `[N]`."""
        return functional.cross_entropy(model(self.masked(x, draws)), y, reduction="none")

    def masked(self, x: Tensor, draws: Draws) -> Tensor:
        """Return the images `[N, C, H, W]` under squares that the draws place."""
        if self.size > min(x.shape[2:]):
            raise BadInput(
                f"size is {self.size}, and the images have {x.shape[2]} x {x.shape[3]} pixels; expected a square that "
                "fits into them, such as the masks of double masking (8 of 28 pixels for patches of 5)."
            )
        share = draws.uniform("squares", 2, self.count).to(x.device)
        inside = []
        for axis, length in enumerate(x.shape[2:]):
            first = (share[:, axis] * (length - self.size + 1)).long()[..., None]
            at = torch.arange(length, device=x.device)
            inside.append((at >= first) & (at < first + self.size))
        hidden = (inside[0][..., :, None] & inside[1][..., None, :]).any(1)
        return torch.where(hidden[:, None], x.new_tensor(self.fill), x)

    def during(self, share: float, /) -> Masked:
        """Return the loss itself."""
        return self
