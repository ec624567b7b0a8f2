"""A whole data set before anything is selected from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from assay.data.orders import Renumbering


class Labels(Protocol):
    """Labels by position: a tuple where they are known, or something that finds out when it is asked."""

    def __getitem__(self, position: int, /) -> int:
        """Return the label of the sample at `position`."""


@dataclasses.dataclass(frozen=True)
class Source:
    """All samples of a data set; the fields mean what they mean in `Data`.

    `content(positions)` gives what names the pixels at those positions, cheaply: a checksum known from elsewhere,
    or one over the ends of files. `labels` that are no tuple are read from the samples, one by one, when asked for.
    `about_pictures` are those of the notes that concern pictures, not labels.
    """

    ids: tuple[str, ...]
    labels: Labels
    classes: tuple[str, ...] | None
    input_shape: tuple[int, int, int] | None
    read: Callable[[int], Tensor]
    content: Callable[[Sequence[int]], str]
    notes: tuple[str, ...] = ()
    targets: tuple[int, ...] | None = None
    about_pictures: tuple[str, ...] = ()
    renumberings: tuple[Renumbering, ...] = ()

    @property
    def all_labels(self) -> tuple[int, ...]:
        """The label of every sample, in order."""
        return tuple(self.labels[position] for position in range(len(self.ids)))


@dataclasses.dataclass(frozen=True)
class Selected:
    """A reader of some positions of another one."""

    read: Callable[[int], Tensor]
    positions: tuple[int, ...]

    def __call__(self, position: int) -> Tensor:
        """Return the image at a position of the selection."""
        return self.read(self.positions[position])


@dataclasses.dataclass(frozen=True)
class Known:
    """Content that a published checksum names, whichever positions are taken."""

    name: str

    def __call__(self, positions: Sequence[int]) -> str:
        """Return the name of the whole."""
        return self.name


@dataclasses.dataclass(frozen=True)
class Stored:
    """A reader of images held as one uint8 tensor `[N, C, H, W]`."""

    images: Tensor

    def __call__(self, position: int) -> Tensor:
        """Return the image at `position` as float32 in [0, 1]."""
        return self.images[position].float() / 255
