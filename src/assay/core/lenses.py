"""Ways of seeing a model, as values: `lens(oracle) -> Oracle`, for `compose.Through(lens, attack)`.

Any gradient attack works behind any of them, and lenses stand behind each other: `Through(InputDiversity(),
Through(TranslationInvariance(), attack))` smooths gradients that were taken at resized images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.lens_oracles import Smoothed, Viewed
from assay.core.oracle import Access, Oracle
from assay.core.tensors import rows

Transformation = Callable[[Tensor, Draws], Tensor]
"""`(points [N, *S], draws) -> points [N, *S]` by operations that torch can differentiate, row by row."""


def _at_least_one(n: int, kind: str) -> None:
    if n < 1:
        raise BadInput(f"{kind} with {n} samples sees nothing; expected 1 sample or more.")


@dataclasses.dataclass(frozen=True)
class Expectation:
    """Expectation over `samples` looks of a randomised model, or over a random `transformation` of the points.

    Athalye et al. 2018, "Synthesizing robust adversarial examples". A randomised model is judged by the mean of its
    logits. Access: gradient. Cost: `samples` forwards and backwards a look; with a transformation one more forward
    for what `judges` asks. Raises `BadInput` for no samples.
    """

    samples: int = 10
    transformation: Transformation | None = None
    judges: bool = True

    access: ClassVar[Access] = Access.GRADIENT

    def __post_init__(self) -> None:
        """Refuse no samples."""
        _at_least_one(self.samples, "Expectation")

    @property
    def passes(self) -> tuple[int, int]:
        """At most so many forwards and backwards of one gradient look."""
        return self.samples + int(self.judges and self.transformation is not None), self.samples

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle seen so."""
        return Viewed(oracle, self)

    def view(self, points: Tensor, draws: Draws, i: int) -> Tensor:
        """Return the points transformed, or as they are."""
        return points if self.transformation is None else self.transformation(points, draws)


@dataclasses.dataclass(frozen=True)
class Averaged:
    """Smoothed gradients: the mean over the point itself and `samples` - 1 random neighbours.

    Neighbours differ by Gaussian noise of standard deviation `sigma` (in pixel units), or by `uniform` noise from
    -sigma to sigma; they may leave the box. For models whose gradient is noise or zero almost everywhere (shattered
    gradients; Athalye et al. 2018, and as averaged PGD in Pintor et al. 2022). Access: gradient. Cost: `samples`
    forwards and backwards a look. Raises `BadInput` for no samples and for a negative sigma.
    """

    samples: int = 20
    sigma: float = 0.03
    uniform: bool = False

    access: ClassVar[Access] = Access.GRADIENT
    judges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse no samples, and noise of no size."""
        _at_least_one(self.samples, "Averaged")
        if not 0 <= self.sigma < math.inf:
            raise BadInput(f"sigma is {self.sigma}, expected a finite number of 0 or more, in pixel units.")

    @property
    def passes(self) -> tuple[int, int]:
        """Forwards and backwards of one gradient look."""
        return self.samples, self.samples

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle seen so."""
        return Viewed(oracle, self)

    def view(self, points: Tensor, draws: Draws, i: int) -> Tensor:
        """Return the points, or neighbours of theirs."""
        if i == 0:
            return points
        shape = points.shape[1:]
        noise = 2 * draws.uniform("neighbour", *shape) - 1 if self.uniform else draws.normal("neighbour", *shape)
        return points + self.sigma * noise.to(points)


@dataclasses.dataclass(frozen=True)
class InputDiversity:
    """Each look sees the images, with a `probability`, resized to a random share and padded with 0 at random.

    Xie et al. 2019 (DI-FGSM): bilinear, to a share of the sides from `smallest` to below 1, each row on its own.
    Access: gradient. Cost: 1 forward and 1 backward a look, and a forward for each resized row where `judges`. Raises
    `BadInput` for a probability or share outside 0 to 1.
    """

    probability: float = 0.5
    smallest: float = 0.9
    judges: bool = True

    samples: ClassVar[int] = 1
    access: ClassVar[Access] = Access.GRADIENT

    def __post_init__(self) -> None:
        """Refuse what is no probability and no share."""
        if not 0 <= self.probability <= 1 or not 0 < self.smallest <= 1:
            raise BadInput(
                f"Input diversity has probability {self.probability} and smallest {self.smallest}; expected a "
                "probability from 0 to 1 and a share of the sides above 0, at most 1."
            )

    @property
    def passes(self) -> tuple[int, int]:
        """At most so many forwards and backwards of one gradient look."""
        return 1 + int(self.judges), 1

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle seen so."""
        return Viewed(oracle, self)

    def view(self, points: Tensor, draws: Draws, i: int) -> Tensor:
        """Return the images resized and padded, or as they are."""
        coin, size, top, left = draws.uniform("diversity", 4).double().unbind(1)
        whole = coin >= self.probability
        tall, wide = (
            _resizing(n, self.smallest, size, at, whole) for n, at in zip(points.shape[-2:], (top, left), strict=True)
        )
        resized = tall.to(points)[:, None] @ points @ wide.to(points)[:, None].mT
        return torch.where(rows(whole, points), points, resized)


def _resizing(side: int, smallest: float, size: Tensor, offset: Tensor, whole: Tensor) -> Tensor:
    """Return the matrices `[N, side, side]` that resize one axis bilinearly and pad it, for uniform draws."""
    least = max(1, math.floor(side * smallest))
    length = least + (size * (side - least)).floor()
    length = torch.where(whole, side, length)[:, None]
    start = (offset[:, None] * (side - length + 1)).floor()
    place = torch.arange(side, device=size.device, dtype=size.dtype)[None] - start
    source = ((place + 0.5) * side / length - 0.5).clamp(0, side - 1)
    weight = (1 - (source[:, :, None] - torch.arange(side, device=size.device)).abs()).clamp_min(0)
    return weight * ((place >= 0) & (place < length))[:, :, None]


@dataclasses.dataclass(frozen=True)
class ScaleCopies:
    """The mean over `samples` copies x, x / 2, x / 4, ... of the image (SI, Lin et al. 2020).

    Access: gradient. Cost: `samples` forwards and backwards a look. Raises `BadInput` for no samples.
    """

    samples: int = 5

    access: ClassVar[Access] = Access.GRADIENT
    judges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse no samples."""
        _at_least_one(self.samples, "ScaleCopies")

    @property
    def passes(self) -> tuple[int, int]:
        """Forwards and backwards of one gradient look."""
        return self.samples, self.samples

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle seen so."""
        return Viewed(oracle, self)

    def view(self, points: Tensor, draws: Draws, i: int) -> Tensor:
        """Return a copy at half the brightness of the one before."""
        return points if i == 0 else points / 2**i


@dataclasses.dataclass(frozen=True)
class TranslationInvariance:
    """Gradients smoothed in space, channel by channel, by a Gaussian `kernel` of so many pixels (Dong et al. 2019).

    To first order the mean over all small translations of the image. The Gaussian is cut at three standard deviations.
    The default kernel is the paper's 15, or the odd number next below a quarter of the shorter side where that is
    less. Access: gradient. Cost: 1 forward and 1 backward a look. Raises `BadInput` for a kernel that is not odd.
    """

    kernel: int | None = None

    access: ClassVar[Access] = Access.GRADIENT
    passes: ClassVar[tuple[int, int]] = (1, 1)

    def __post_init__(self) -> None:
        """Refuse a kernel without a middle."""
        if self.kernel is not None and (self.kernel < 1 or self.kernel % 2 == 0):
            raise BadInput(f"A kernel of {self.kernel} pixels has no middle; expected an odd number such as 7.")

    def __call__(self, oracle: Oracle, /) -> Oracle:
        """Return the oracle seen so."""
        return Smoothed(oracle, self.weights)

    def weights(self, side: int) -> list[float]:
        """Return the kernel along one axis, for images whose shorter side is `side`; they sum to 1."""
        most = side // 4
        size = min(_KERNEL, max(1, most - (most + 1) % 2)) if self.kernel is None else self.kernel
        half = size // 2
        each = [math.exp(-0.5 * (3 * i / max(half, 1)) ** 2) for i in range(-half, half + 1)]
        return [one / math.fsum(each) for one in each]


_KERNEL = 15
