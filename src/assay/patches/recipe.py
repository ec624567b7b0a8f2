"""How a patch is trained: everything its pixels depend on besides models and images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from assay.attacks.parts.optimisers import Adam, Momentum
from assay.attacks.patch import Place, Room
from assay.core.errors import BadInput, did_you_mean
from assay.patches.transforms import Transforms

OPTIMIZERS = ("sgd", "adam")
# tanh reaches 0 and 1 at infinity; a start is held so far from them
_EDGE = 1e-3


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A patch to train, by default as Sen et al. 2023 do it.

    The pixels are (tanh(p) + 1) / 2 of what is optimised, from mid-grey or from `start` (float32 `[C, h, w]` in [0,
    1]). `mask` `[h, w]` is its shape. `target` is the class to reach, None for any wrong one. Each step pastes the
    patch once into each of `batch` images at a random place, `published` as in `Room`, or at the place `at`, through
    `transforms`, and climbs the mean objective (log-likelihood of the target, or cross-entropy of the label).
    """

    mask: Tensor
    target: int | None = None
    channels: int = 3
    start: Tensor | None = None
    epochs: int = 5
    batch: int = 32
    optimizer: str = "sgd"
    rate: float = 0.1
    momentum: float = 0.8
    published: bool = False
    at: Place | None = None
    transforms: Transforms = dataclasses.field(default_factory=Transforms)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use."""
        if self.optimizer not in OPTIMIZERS:
            near = did_you_mean(self.optimizer, OPTIMIZERS)
            raise BadInput(f"Unknown optimizer {self.optimizer!r}.{near} There are: {', '.join(OPTIMIZERS)}.")
        if self.epochs < 0 or self.batch < 1:
            raise BadInput(f"epochs is {self.epochs} and batch {self.batch}; expected 0 or more, and 1 or more.")
        shape = (self.channels, *self.mask.shape)
        if self.start is not None and tuple(self.start.shape) != shape:
            raise BadInput(
                f"The start is {list(self.start.shape)}; expected {list(shape)}, the channels and the size of the mask."
            )
        if not 0 < self.rate < math.inf or not 0 <= self.momentum < 1:
            raise BadInput(
                f"rate is {self.rate} and momentum {self.momentum}; expected above 0, and from 0 to below 1."
            )

    @property
    def beginning(self) -> Tensor:
        """What is optimised, before the first step: float32 `[C, h, w]`."""
        if self.start is None:
            return torch.zeros(self.channels, *self.mask.shape)
        return torch.atanh(2 * self.start.clamp(_EDGE, 1 - _EDGE) - 1)

    @property
    def untouched(self) -> Tensor:
        """The pixels before the first step, exactly: the start, or mid-grey."""
        return pixels_of(self.beginning) if self.start is None else self.start

    def attack(self, steps: int) -> Momentum | Adam:
        """Return the optimiser."""
        if self.optimizer == "sgd":
            return Momentum(steps, self.rate, self.momentum)
        return Adam(steps, self.rate)

    def room(self, image: Sequence[int]) -> Room:
        """Return where the patch may lie in images `[C, H, W]`."""
        height, width = self.mask.shape
        return Room(height, width, image[1], image[2], self.published, self.at)

    def plain(self) -> dict[str, str]:
        """Return the settings in words: what must be equal for a training to be continued."""
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("mask", "start")}
        return {name: str(value) for name, value in told.items()}


def pixels_of(variable: Tensor) -> Tensor:
    """Return the pixels in [0, 1] that an optimised variable stands for."""
    return (variable.tanh() + 1) / 2
