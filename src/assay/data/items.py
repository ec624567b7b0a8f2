"""The items of a data set that is a Python object: what is the image, what is the label, and the tensor it gives."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assay.core.errors import AssayError, BadInput
from assay.data.dataset import Labels, PictureError
from assay.data.known_labels import LABEL_KEYS, ItemLabels, check_same_label, class_number
from assay.data.pictures import picture_tensor, to_eight_bits
from assay.models.classifier import Preprocess

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "pixels", "picture", "input", "inputs", "x", "data")


@dataclasses.dataclass(frozen=True)
class Items:
    """Reader of the items of `dataset`, which is called `name` to the user.

    Items are pairs (image, label) or mappings that name them. With a `seed` whatever an item draws from the global
    random generators depends on the seed and its position alone.
    """

    dataset: Any
    name: str
    channels: int
    preprocess: Preprocess | None
    classes: tuple[str, ...] = ()
    seed: int | None = None

    def pair(self, position: int) -> tuple[Any, Any]:
        """Return image and label at `position` as the data set gives them.

        Raises `BadInput` when the item is no pair, `PictureError` when it cannot be read.
        """
        fixed = contextlib.nullcontext() if self.seed is None else fixed_draws(self.seed, f"{self.name}/{position}")
        try:
            with fixed:
                item = self.dataset[position]
        except AssayError:
            raise
        except OSError as error:
            raise PictureError(f"item {position}: {error}") from error
        except Exception as error:
            raise PictureError(f"item {position}: {type(error).__name__}: {error}") from error
        return image_and_label(item, f"Item {position} of {self.name}")

    def label(self, position: int) -> int:
        """Return the label of the item at `position`."""
        return class_number(self.pair(position)[1], f"Item {position}", self.classes)

    def tensor(self, image: Any, position: int) -> Tensor:
        """Return what an item has as its image as a float32 tensor, bytes divided by 255."""
        if isinstance(image, Image.Image):
            try:
                return picture_tensor(to_eight_bits(image, self.channels), self.preprocess)
            except OSError as error:
                raise PictureError(f"item {position}: {error}") from error
        if isinstance(image, np.ndarray):
            image = _from_array(image, f"Item {position} of {self.name}")
        if not isinstance(image, Tensor):
            raise BadInput(
                f"Item {position} of {self.name} has an image of type {type(image).__name__}; "
                "expected a tensor, an array or a Pillow image."
            )
        pixels: Tensor = image.detach().cpu()
        return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.to(torch.float32)

    def __call__(self, position: int) -> Tensor:
        """Return the image at `position`: float32 `[C, H, W]`."""
        return self.tensor(self.pair(position)[0], position)


@dataclasses.dataclass(frozen=True)
class LabelledItems:
    """Reader of items that looks at the label too, each time an image is read: it must be the one that counts."""

    items: Items
    labels: Labels

    def __call__(self, position: int) -> Tensor:
        """Return the image at `position`. Raises `BadInput` where its item has another label than it is known by."""
        image, own = self.items.pair(position)
        with contextlib.suppress(_NoNumber):
            check_same_label(self.items.name, position, self._known(position), self._own(own, position))
        return self.items.tensor(image, position)

    def _known(self, position: int) -> int:
        if isinstance(self.labels, ItemLabels) and position not in self.labels.known:
            raise _NoNumber
        return self.labels[position]

    def _own(self, value: Any, position: int) -> int:
        try:
            return class_number(value, f"Item {position}", self.items.classes)
        except BadInput as error:
            raise _NoNumber from error

    def content(self, positions: Sequence[int]) -> str:
        """Return a digest of the first eight images at these positions: reading all could take hours."""
        digest = hashlib.blake2b(digest_size=16)
        for position in positions[:8]:
            try:
                digest.update(self(position).contiguous().numpy().tobytes())
            except PictureError:
                digest.update(b"unreadable")
        return digest.hexdigest()


class _NoNumber(Exception):
    """A label that cannot be compared."""


def image_and_label(item: Any, what: str) -> tuple[Any, Any]:
    """Return the image and the label of an item. Raises `BadInput` saying what is missing."""
    if isinstance(item, Mapping):
        return item[_key(item, IMAGE_KEYS, "image", what)], item[_key(item, LABEL_KEYS, "label", what)]
    if not isinstance(item, tuple | list) or len(item) < 2:
        kind = type(item).__name__
        raise BadInput(f"{what} is {kind}; expected (image, label), or {{'image': …, 'label': …}}.")
    return item[0], item[1]


def _key(item: Mapping[Any, Any], known: Sequence[str], role: str, what: str) -> str:
    keys = [key for key in known if key in item]
    # the plain word is meant where it is there: {"image": …, "pixel_values": …}
    if keys and (len(keys) == 1 or keys[0] == role):
        return keys[0]
    found = f"several that may be it: {', '.join(keys)}" if keys else f"the keys {', '.join(map(str, item))}"
    raise BadInput(f"{what} has no key '{role}', but {found}. Return (image, label) pairs, or name the key '{role}'.")


def _from_array(image: np.ndarray[Any, Any], what: str) -> Tensor:
    """Return an array as a tensor of its own: arrays may be read-only, strided backwards, or of foreign byte order."""
    try:
        return torch.from_numpy(np.array(image, dtype=image.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise BadInput(f"{what} has an image of type {image.dtype}; expected numbers, such as uint8.") from error


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Put the global generators of `random`, NumPy and torch back afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@contextlib.contextmanager
def fixed_draws(seed: int, name: str) -> Iterator[None]:
    """Seed the global generators of `random`, NumPy and torch from (seed, name), and put them back afterwards."""
    number = int.from_bytes(hashlib.blake2b(f"{seed}\x1f{name}".encode(), digest_size=4).digest(), "big")
    with generators_kept():
        random.seed(number)
        np.random.seed(number)
        torch.default_generator.manual_seed(number)
        yield
