"""How a patch gets onto images: at random places, through transformations, without editing the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from assay.attacks.patch import Room, paste
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.patches.recipe import pixels_of
from assay.patches.transforms import Transforms


@dataclasses.dataclass(frozen=True)
class Placing:
    """Pastes pixels `[V, C, h, w]` once over each of B images, at places drawn by the patch's draws, or at `places`.

    `places` int64 `[B, 2]` (row, column) stand in for random ones.
    """

    room: Room
    mask: Tensor
    transforms: Transforms
    places: Tensor | None = None

    def __call__(self, pixels: Tensor, images: Tensor, draws: Draws) -> Tensor:
        """Return new images `[V, B, C, H, W]`, differentiable with respect to the pixels.

        Raises `BadInput` for images of another size, or with other channels.
        """
        several, many = len(pixels), len(images)
        expected = (pixels.shape[1], self.room.tall, self.room.wide)
        if tuple(images.shape[1:]) != expected:
            raise BadInput(f"The images are {_by(images.shape[1:])}; the patch is for images of {_by(expected)}.")
        places = self.places.expand(several, many, 2) if self.places is not None else None
        places = self.room.random(draws, "place", many) if places is None else places
        mask = self.mask.to(images.device, images.dtype)
        whole = images.expand(several, *images.shape)
        lit = self.transforms.coloured(pixels, draws, many)
        if self.transforms.bends:
            size = (images.shape[2], images.shape[3])
            alpha = mask.expand(several, many, 1, *mask.shape)
            cover = self.transforms.bent(alpha, places, draws, size)
            pasted = whole * (1 - cover) + self.transforms.bent(lit * mask, places, draws, size)
        else:
            flat = paste(whole.flatten(0, 1), lit.flatten(0, 1), mask, places.flatten(0, 1))
            pasted = flat.view_as(whole)
        return self.transforms.compressed(pasted, draws)


@dataclasses.dataclass(frozen=True)
class FromVariable:
    """The same for a variable that is optimised: its pixels are (tanh + 1) / 2 of it."""

    placing: Placing

    def __call__(self, variables: Tensor, images: Tensor, draws: Draws) -> Tensor:
        """Return new images `[V, B, C, H, W]`, differentiable with respect to the variables."""
        return self.placing(pixels_of(variables), images, draws)


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
