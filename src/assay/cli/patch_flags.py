"""Flags of the commands of `assay patch`: the patch, its training, transformations, places, and the images."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.data import Data
    from assay.models import Classifier
    from assay.patches.transforms import Transforms

_PATCH, _WHICH = "The patch", "Which images"
_HOW = "How it is trained (the defaults are those of Sen et al. 2023)"
_SEEN = "How it is seen (all but brightness and contrast need the extra eot)"
_BATCH = 32


def flag(panel: str, text: str, *names: str, default: bool = False) -> object:
    """Return an option of a panel; its default is in the text, or is shown."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=default)


@dataclasses.dataclass(frozen=True)
class PatchFlags:
    """What the patch is."""

    target: Annotated[str | None, flag(_PATCH, "The class to reach: name, number or synset (any wrong class).")] = None
    size: Annotated[int, flag(_PATCH, "The longer side in pixels (64).")] = 64
    shape: Annotated[str, flag(_PATCH, "square, circle, or a PNG whose alpha is the mask (square).")] = "square"
    start: Annotated[Path | None, flag(_PATCH, "A photograph to start from; with --epochs 0 it is the patch.")] = None
    at: Annotated[str | None, flag(_PATCH, "One fixed place X,Y of the top left corner (random places).")] = None


@dataclasses.dataclass(frozen=True)
class FitFlags:
    """How it is optimised."""

    epochs: Annotated[int, flag(_HOW, "Passes over the images (5).")] = 5
    batch: Annotated[
        int | None,
        flag(_HOW, f"Images per step; a smaller last batch is left out ({_BATCH}, or all where there are fewer)."),
    ] = None
    optimizer: Annotated[str, flag(_HOW, "sgd or adam (sgd).")] = "sgd"
    rate: Annotated[float, flag(_HOW, "The step's length (0.1).")] = 0.1
    momentum: Annotated[float, flag(_HOW, "The momentum of sgd (0.8).")] = 0.8
    published: Annotated[
        bool, flag(_HOW, "Places of the public notebook: the last two rows and columns are never used.", "--published")
    ] = False
    seed: Annotated[int, flag(_HOW, "The seed of order, places and the held-out part (0).")] = 0

    def batch_of(self, images: int) -> int:
        """Return how many of `images` a step takes."""
        return min(_BATCH, images) if self.batch is None else self.batch


@dataclasses.dataclass(frozen=True)
class SeenFlags:
    """Ranges of the transformations between the patch and the model."""

    rotation: Annotated[float, flag(_SEEN, "Degrees to both sides (0).")] = 0.0
    scale: Annotated[str, flag(_SEEN, "From,to: 0.7,1.1 (1,1).")] = "1,1"
    perspective: Annotated[float, flag(_SEEN, "Each corner moves by up to this share of a side (0).")] = 0.0
    brightness: Annotated[float, flag(_SEEN, "Light added or taken, 0 to 1 (0).")] = 0.0
    contrast: Annotated[float, flag(_SEEN, "Contrast gained or lost, as a share (0).")] = 0.0
    jpeg: Annotated[int | None, flag(_SEEN, "JPEG of the whole image, at this quality or better (none).")] = None

    def transforms(self) -> Transforms:
        """Return the ranges. Raises `BadInput` for those that mean nothing."""
        from assay.patches.transforms import Transforms

        try:
            low, high = (float(part) for part in self.scale.split(","))
        except ValueError:
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BadInput(f"--scale {self.scale}: expected FROM,TO such as 0.7,1.1.")
        return Transforms(self.rotation, (low, high), self.perspective, self.brightness, self.contrast, self.jpeg)


@dataclasses.dataclass(frozen=True)
class ImageFlags:
    """The images, and which part of them."""

    data: Annotated[str, flag(_WHICH, "A data set: samples, imagenet:DIR, folder:DIR, … (samples).")] = "samples"
    per_class: Annotated[int | None, flag(_WHICH, "So many images of each class.")] = None
    limit: Annotated[int | None, flag(_WHICH, "The first N images.")] = None
    held_out: Annotated[
        int | None, flag(_WHICH, "So many images are kept for measuring and not trained on; evaluate takes these.")
    ] = None

    def load(self, model: Classifier, part: str, seed: int) -> Data:
        """Return one `part` (`rest` or `held-out`) of the images as the model wants them; all, where none is held out.

        Raises `BadInput` where the part would be empty.
        """
        from assay.data import load_data

        if not self.held_out:
            return load_data(self.data, model=model, per_class=self.per_class, limit=self.limit, seed=seed)
        count = len(load_data(self.data, model=model, per_class=self.per_class, seed=seed))
        if not 0 < self.held_out < count:
            raise BadInput(
                f"--held-out is {self.held_out} of {count} images; expected 1 to {count - 1}, as some must be left to "
                "train on."
            )
        chosen = f"{part} {self.held_out}"
        return load_data(self.data, model=model, per_class=self.per_class, limit=self.limit, part=chosen, seed=seed)

    def spoken(self, seed: int) -> list[str]:
        """Return the flags that choose the same images again."""
        given = {"--per-class": self.per_class, "--limit": self.limit, "--held-out": self.held_out}
        chosen = [word for name, value in given.items() if value for word in (name, str(value))]
        return ["--data", self.data, *chosen, *(["--seed", str(seed)] if seed or self.held_out else [])]


def place(written: str | None) -> tuple[int, int] | None:
    """Return the (row, column) of `X,Y`."""
    from assay.attacks.options import parse_place

    return parse_place(written)
