"""Corrupted data as views of other data: `SOURCE|gaussian-noise:severity=3` is every image of SOURCE, corrupted.

A view keeps ids, labels and selection. What becomes of an image depends on its id, its pixels, the corruption and the
severity alone: neither the order of reading nor the process changes a pixel. Severity 0 is the image itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.core.errors import BadInput, did_you_mean
from assay.data import digit_corruptions, photo_corruptions
from assay.data.dataset import Data, begin_to_read, check_image

Pixels = NDArray[Any]

VERSION = 1
"""Raised whenever the pixels of a corruption change: it is a part of the fingerprint of corrupted data."""

SEVERITIES = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class CorruptionSet:
    """Corruptions that belong together. `standard` are those of the set's mean; the others validate.

    `usual` holds the severities that are measured where none is named, `allowed` all that there are, by corruption.
    `render(kind, pixels, severity, seed)` corrupts an image (uint8 `[H, W, C]`), `check` raises `BadInput` for a shape
    (C, H, W) that it cannot take, and `version` names what draws.
    """

    name: str
    standard: tuple[str, ...]
    usual: Mapping[str, tuple[int, ...]]
    allowed: Mapping[str, tuple[int, ...]]
    render: Callable[[str, Pixels, int, int], Pixels]
    check: Callable[[tuple[int, ...], str], None]
    version: Callable[[], str]

    @property
    def kinds(self) -> tuple[str, ...]:
        """All corruptions, the standard ones first."""
        return tuple(self.allowed)


PHOTOS = CorruptionSet(
    "ImageNet-C",
    photo_corruptions.STANDARD,
    dict.fromkeys((*photo_corruptions.STANDARD, *photo_corruptions.VALIDATION), SEVERITIES),
    dict.fromkeys((*photo_corruptions.STANDARD, *photo_corruptions.VALIDATION), SEVERITIES),
    photo_corruptions.render,
    photo_corruptions.check,
    photo_corruptions.version,
)
DIGITS = CorruptionSet(
    "MNIST-C",
    tuple(digit_corruptions.PUBLISHED),
    {kind: (severity,) for kind, severity in digit_corruptions.PUBLISHED.items()},
    {kind: SEVERITIES[: digit_corruptions.levels(kind)] for kind in digit_corruptions.PUBLISHED},
    digit_corruptions.render,
    digit_corruptions.check,
    lambda: "assay",
)
NAMES = tuple(dict.fromkeys((*PHOTOS.kinds, *DIGITS.kinds)))
"""Every corruption of either set."""


def set_for(shape: tuple[int, ...] | None) -> CorruptionSet:
    """Return MNIST-C's corruptions for grey images of shape (1, 28, 28), and ImageNet-C's for all others."""
    return DIGITS if shape == (1, 28, 28) else PHOTOS


def known_corruption(written: str) -> str:
    """Return the name of a corruption; underscores are taken for hyphens. Raises `BadInput` for an unknown one."""
    name = written.strip().lower().replace("_", "-")
    if name not in NAMES:
        raise BadInput(f"Unknown corruption {written!r}.{did_you_mean(name, NAMES)} There are: {', '.join(NAMES)}.")
    return name


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A corruption by its name, at a severity: 0 (nothing) to 5."""

    kind: str
    severity: int

    @property
    def written(self) -> str:
        """The corruption as a source names it, behind its `|`."""
        return f"{self.kind}:severity={self.severity}"


def written_view(source: str, corruption: Corruption) -> str:
    """Return how the corrupted data of `source` are named."""
    return f"{source}|{corruption.written}"


def take_view(source: str) -> tuple[str, Corruption | None]:
    """Return a source without the corruption behind its last `|`, and that corruption; None where it has none.

    A file or folder that exists under the whole name has none. Raises `BadInput` for an unknown corruption, for
    another option than `severity`, and for a severity that is none.
    """
    plain, bar, written = source.rpartition("|")
    if not bar or any(Path(name).expanduser().exists() for name in (source, source.partition(":")[2]) if name):
        return source, None
    name, colon, option = written.partition(":")
    kind = known_corruption(name)
    key, _, value = option.partition("=")
    if not plain or not colon or key.strip() != "severity" or not value.strip().isdecimal():
        raise BadInput(f"{source!r} names no corrupted data; expected SOURCE|{kind}:severity=3, with 0 to 5.")
    return plain, Corruption(kind, check_severity(int(value)))


def check_severity(value: int, lowest: int = 0) -> int:
    """Return a severity. Raises `BadInput` for one outside `lowest` to 5."""
    if not lowest <= value <= SEVERITIES[-1]:
        raise BadInput(f"severity is {value}, expected {lowest} to {SEVERITIES[-1]}.")
    return value


def corrupted(data: Data, corruption: Corruption) -> Data:
    """Return `data` with every image corrupted when it is read; ids and labels stay.

    Images are rounded to 8 bits first, as both sets were made from 8-bit images. Raises `BadInput` for images that the
    set of their shape cannot take, for a corruption of the other set, and for a severity that it does not have, and
    `Unavailable` where the package that draws it is not installed.
    """
    source = written_view(data.source, corruption)
    chosen = set_for(data.input_shape)
    if corruption.kind not in chosen.allowed:
        raise BadInput(
            f"{corruption.kind} is no corruption of {chosen.name}, which belongs to {data.source}. "
            f"There are: {', '.join(chosen.kinds)}."
        )
    if not corruption.severity:
        return dataclasses.replace(data, source=source)
    if corruption.severity not in chosen.allowed[corruption.kind]:
        last = chosen.allowed[corruption.kind][-1]
        levels = "severity 1 alone" if last == 1 else f"severities 1 to {last}"
        raise BadInput(f"{corruption.kind} of {chosen.name} has {levels}; got {corruption.severity}.")
    if data.input_shape is not None:
        chosen.check(data.input_shape, data.source)
    told = f"{data.fingerprint}|{chosen.name}|{corruption.written}|{VERSION}|{chosen.version()}"
    return dataclasses.replace(
        data,
        source=source,
        fingerprint=hashlib.blake2b(told.encode(), digest_size=16).hexdigest(),
        read=Corrupted(data.read, data.ids, corruption),
    )


@dataclasses.dataclass(frozen=True)
class Corrupted:
    """A reader of corrupted images."""

    read: Callable[[int], Tensor]
    ids: tuple[str, ...]
    corruption: Corruption

    def __call__(self, position: int) -> Tensor:
        """Return the corrupted image at a position as float32 `[C, H, W]`, in steps of 1/255."""
        image, name = self.read(position), self.ids[position]
        check_image(image, name, None)
        return corrupted_image(image, name, self.corruption)

    def ahead(self, asked: Sequence[int], position: Callable[[int], int], count: int) -> None:
        """Let the reader of the originals begin."""
        begin_to_read(self.read, asked, position, count)


def corrupted_image(image: Tensor, name: str, corruption: Corruption) -> Tensor:
    """Return the image (float32 `[C, H, W]` in [0, 1]) called `name`, corrupted; the name decides what is drawn.

    Raises `BadInput` for an image that the corruption cannot take.
    """
    if not corruption.severity:
        return image
    chosen = set_for(tuple(image.shape))
    chosen.check(tuple(image.shape), name)
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    told = f"{name}\x1f{corruption.kind}\x1f{corruption.severity}"
    seed = int.from_bytes(hashlib.blake2b(told.encode(), digest_size=4).digest(), "little")
    changed = chosen.render(corruption.kind, pixels, corruption.severity, seed)
    return torch.from_numpy(np.ascontiguousarray(changed.transpose(2, 0, 1))).float() / 255


@dataclasses.dataclass
class Kept:
    """A reader that keeps the first images it reads, up to `most` bytes: every view of the same data asks for them."""

    read: Callable[[int], Tensor]
    most: int = 128 * 2**20
    _images: dict[int, Tensor] = dataclasses.field(default_factory=dict, repr=False)
    _size: int = 0

    def __call__(self, position: int) -> Tensor:
        """Return the image at a position."""
        if position in self._images:
            return self._images[position]
        image = self.read(position)
        size = image.element_size() * image.nelement()
        # data that are larger are read through once per view: what came first is what comes first again
        if self._size + size <= self.most:
            self._images[position], self._size = image, self._size + size
        return image

    def ahead(self, asked: Sequence[int], position: Callable[[int], int], count: int) -> None:
        """Let the reader begin with what is not kept."""
        if not all(position(one) in self._images for one in asked):
            begin_to_read(self.read, asked, position, count)
