"""Flags that the commands of `assay patch` share: transformations, places, and the images."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.data import Data
    from assay.models import Classifier
    from assay.patches.transforms import Transforms

_SEEN = "How the patch is seen (rotation, scale, perspective and jpeg need the extra eot)"
_WHICH = "Which images"


def flag(panel: str, text: str, *names: str, default: bool = False) -> object:
    """Return an option of a panel; its default is in the text, or is shown."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=default)


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

        parts = self.scale.split(",")
        try:
            low, high = (float(parts[0]), float(parts[-1]))
        except ValueError:
            raise BadInput(f"--scale {self.scale}: expected FROM,TO such as 0.7,1.1.") from None
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

    def load(self, model: Classifier, part: str | None, seed: int) -> Data:
        """Return the images as the model wants them, or one `part` of them (`rest` or `held-out`)."""
        from assay.data import load_data

        chosen = f"{part} {self.held_out}" if part is not None and self.held_out else None
        return load_data(self.data, model=model, per_class=self.per_class, limit=self.limit, part=chosen, seed=seed)


def place(written: str | None) -> tuple[int, int] | None:
    """Return the (row, column) of `X,Y`."""
    from assay.evaluate.patch_attack import parse_place

    return parse_place(written)
