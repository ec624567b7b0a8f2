"""Perturbation masks: which values of an image an attack may change."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.core.tensors import flat

_SHAPES = "[H, W], [1, H, W] or [C, H, W] for all images, or [N, 1, H, W] or [N, C, H, W] with one per image"


@dataclasses.dataclass(frozen=True)
class Mask:
    """The values that may change: `shared` (bool `[1|C, H, W]` or `[C, 1, 1]`) by all images, or `own` (`[N, ...]`).

    Exactly one of the two is given. `Mask.of` reads what users write.
    """

    shared: Tensor | None = None
    own: Tensor | None = None

    SHARED: ClassVar[tuple[str, ...]] = ("shared",)

    @staticmethod
    def of(given: Any) -> Mask:
        """Return the mask that a bool or 0/1 tensor (or array) describes; 1 is where a value may change.

        Raises `BadInput` for another shape, for fractions, and for a mask in which nothing may change.
        """
        mask = _zero_or_one(given)
        if mask.ndim not in (2, 3, 4):
            raise BadInput(f"The mask has shape {list(mask.shape)}, expected {_SHAPES}.")
        mask = mask[None] if mask.ndim == 2 else mask
        empty = ~(mask.flatten(1).any(1) if mask.ndim == 4 else mask.any()[None])
        if bool(empty.any()):
            which = f" of image {int(empty.nonzero()[0])}" if mask.ndim == 4 else ""
            raise BadInput(
                f"The mask{which} is empty: no value may change, so that no attack is one. "
                "Expected 1 (or True) where values may change."
            )
        return Mask(shared=mask) if mask.ndim == 3 else Mask(own=mask)

    @property
    def free(self) -> Tensor:
        """The mask as bool, in a shape that broadcasts over `[N, C, H, W]`."""
        mask = self.shared if self.own is None else self.own
        assert mask is not None
        return mask

    def on(self, device: torch.device) -> Mask:
        """Return the mask on a device."""
        if self.free.device == device:
            return self
        return Mask(*(None if one is None else one.to(device) for one in (self.shared, self.own)))

    def check(self, x: Tensor) -> None:
        """Raise `BadInput` where the mask does not fit the images `x` `[N, C, H, W]`."""
        if self.own is not None and len(self.own) != len(x):
            raise BadInput(f"{len(self.own)} masks for {len(x)} images; expected one per image, or one for all.")
        channels, *size = self.free.shape[-3:]
        if size not in ([1, 1], list(x.shape[2:])) or (size == [1, 1] and channels == 1 and size != list(x.shape[2:])):
            raise BadInput(
                f"The mask is {size[0]} x {size[1]} (height x width), the images are {x.shape[2]} x {x.shape[3]}. "
                "Make the mask for images of the size that the model sees; masks are not resized."
            )
        if channels not in (1, x.shape[1]):
            raise BadInput(
                f"The mask is for {channels} channels, the images have {x.shape[1]}. Give it as many, or one for all."
            )

    def only(self, value: Tensor) -> Tensor:
        """Return `value` (`[N, *S]`, or `[N, R, *S]`) with 0 where nothing may change."""
        free = self.free if self.own is None or value.ndim == self.own.ndim else self.own[:, None]
        return torch.where(free, value, value.new_zeros(()))

    def inside(self, z: Tensor, x: Tensor) -> Tensor:
        """Return `z` where values may change, and `x` elsewhere, bit for bit."""
        return torch.where(self.free, z, x)

    def kept(self, z: Tensor, x: Tensor) -> Tensor:
        """Return bool `[N]`: whether `z` is `x` wherever nothing may change."""
        return flat(self.free | (z == x)).all(1)

    def over(self, x: Tensor) -> Tensor:
        """Return the mask expanded to the shape of `x`."""
        return self.free.expand(x.shape)

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and the last row and column that may change, int64 `[N, 2]` each (`[1, 2]` if shared)."""
        free = self.free.expand(*self.free.shape[:-2], *x.shape[-2:])
        plane = (free if self.own is not None else free[None]).any(1)
        lines = [plane.any(2), plane.any(1)]
        first = torch.stack([line.int().argmax(1) for line in lines], 1)
        last = torch.stack([line.shape[1] - 1 - line.int().flip(1).argmax(1) for line in lines], 1)
        return first, last

    def count(self, x: Tensor) -> int | Tensor:
        """Return how many values of an image like those of `x` may change: a number, or float `[N]` if each its own."""
        if self.own is None:
            return int(self.over(x[:1]).sum()) if len(x) else 1
        return flat(self.over(x)).sum(1).to(x.dtype)


def with_channels(mask: Mask | None, channels: Tensor) -> Mask:
    """Return the mask cut to the channels (bool `[C]`) that may change. Raises `BadInput` where nothing is left."""
    if mask is None:
        return Mask(shared=channels.view(-1, 1, 1))
    if mask.free.shape[-3] not in (1, len(channels)):
        raise BadInput(f"The mask is for {mask.free.shape[-3]} channels, the budgets are for {len(channels)}.")
    return Mask.of(mask.free & channels.to(mask.free.device).view(-1, 1, 1))


def same_mask(one: Mask | None, other: Mask | None) -> bool:
    """Whether two threats let the same values change."""
    if one is None or other is None:
        return one is other
    return (one.own is None) == (other.own is None) and torch.equal(one.free.cpu(), other.free.cpu())


def only_free(value: Tensor, free: Tensor | None) -> Tensor:
    """Return rows `[N, D]` with 0 where bool `[N, D]` or `[1, D]` says that nothing may change; None: all may."""
    return value if free is None else torch.where(free, value, 0)


def count_free(free: Tensor | None, features: int) -> int | Tensor:
    """Return how many of so many `features` are free: a number, or float64 `[N, 1]` where rows differ."""
    if free is None or len(free) == 1:
        return features if free is None else int(free.sum())
    # float64, in which a share of it is what Python makes of a whole number
    return free.sum(1, keepdim=True).double()


def _zero_or_one(given: Any) -> Tensor:
    try:
        mask = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"The mask is a {type(given).__name__}, expected a tensor of 0 and 1.") from error
    if mask.dtype == torch.bool:
        return mask
    other = mask[(mask != 0) & (mask != 1)]
    if len(other):
        raise BadInput(
            f"The mask holds {other[0].item():g}, expected 0 (stays as it is) and 1 (may change). Choose a threshold, "
            "as in mask > 0; a budget that differs by channel is a list of budgets."
        )
    return mask != 0
