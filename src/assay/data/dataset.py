"""Labelled images: samples, sources and data sets, and what is wrong with images outside [0, 1]."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from assay.core.errors import AssayError, BadInput
from assay.data.class_orders import Renumbering

_NORMALISED = 20.0
"""Pixels further from 0 than this are no normalised ones: the brightest of usual normalisations is below 3."""

_WHITES = {16: "digits of scikit-learn", 255: "8 bits", 1023: "10 bits", 4095: "12 bits", 16383: "14 bits",
           65535: "16 bits"}  # fmt: skip


def range_advice(images: Sequence[Tensor]) -> str:
    """Return what to do to images whose pixels are not in [0, 1]; all of `images` are of one data set."""
    values = [image[torch.isfinite(image)] for image in images if image.numel()]
    low = min(float(one.min()) for one in values if one.numel())
    high = max(float(one.max()) for one in values if one.numel())
    whole = all(bool((one == one.round()).all()) for one in values)
    seen = "the images looked at" if len(values) > 1 else "this image"
    if low < 0:
        return _of_negative(low, high, seen, whole=whole)
    if not whole and high <= 2:
        clamp = "If resizing overshot, cut it: image.clamp(0, 1). " if high <= 1.25 else ""
        return f"{clamp}Leave normalisation to the model: give images in [0, 1]."
    return _by_white(high, seen, whole=whole)


def _of_negative(low: float, high: float, seen: str, *, whole: bool) -> str:
    largest = max(-low, high)
    if not whole and largest <= _NORMALISED:
        back = "(image + 1) / 2" if largest <= 1 else "image * std + mean"
        return (
            f"Leave normalisation to the model: give images in [0, 1], which {back} brings back, and put the "
            "normalisation in front of the model (assay.models.Normalized(module, mean, std))."
        )
    kind = "Signed whole numbers" if whole else "Such values"
    return (
        f"{kind} ({low:g} to {high:g} in {seen}) come into [0, 1] by (image - LOW) / (HIGH - LOW), with the darkest "
        "and the brightest value that your files can have, the same for all images, as the model was trained."
    )


def _by_white(high: float, seen: str, *, whole: bool) -> str:
    white = next((one for one in _WHITES if high <= one + 0.5), None)
    # far below a full scale it is anyone's guess which scale is meant
    if white is None or high < (white / 2 if white > 16 else 9) or (white == 16 and not whole):
        normalised = "" if whole or high > _NORMALISED else " If they are normalised, leave that to the model."
        return (
            f"Divide it by the value that stands for white in your data (the brightest in {seen} is {high:g}), the "
            f"same for all images.{normalised}"
        )
    return (
        f"Divide it by {white}. That is white in {_WHITES[white]}; the brightest value in {seen} is {high:g}. If "
        f"another value is white in your data, divide by that, the same for all images (npz: and hdf5: take "
        f"?scale={white})."
    )


_SEEN = 16


def begin_to_read(reader: object, asked: Sequence[int], position: Callable[[int], int], count: int) -> None:
    """Tell a reader which samples are asked for next, where it can begin with them: files that lie far away.

    `asked` are of a selection of `count` samples, `position` says where each stands in what the reader reads.
    """
    ahead = getattr(reader, "ahead", None)
    if ahead is not None:
        ahead(asked, position, count)


class PictureError(AssayError):
    """One picture that cannot be read: a truncated or foreign file. The others are not affected."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One labelled image: float32 `[C, H, W]` in [0, 1], under an id that is the same on every machine."""

    id: str
    image: Tensor
    label: int


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A sample whose picture could not be read, and why."""

    id: str
    label: int
    error: str


@dataclasses.dataclass(frozen=True)
class Data:
    """Labelled images: everything but the pixels, and `read(position)`, which gives those of one image.

    `fingerprint` names the content. `classes` are the names of the labels, in label order, where they are known.
    `input_shape` (C, H, W) is that of every image; None means the first one read decides. `notes` are things the
    user should know about how labels and files were understood, `about_pictures` those of them that concern pictures.
    `targets` are class numbers that an attack may aim at, one per sample, where the source has them. `renumberings` are
    other orders in which the classes may have been numbered when the model was trained. `predicted` says that labels
    are a model's own answers.
    """

    source: str
    fingerprint: str
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...] | None
    input_shape: tuple[int, int, int] | None
    read: Callable[[int], Tensor]
    notes: tuple[str, ...] = ()
    targets: tuple[int, ...] | None = None
    about_pictures: tuple[str, ...] = ()
    renumberings: tuple[Renumbering, ...] = ()
    predicted: bool = False

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.ids)

    def load(self, positions: Iterable[int]) -> list[Sample | Unreadable]:
        """Read the images at these positions, and only these.

        Raises `BadInput` naming the sample when an image is no float32 `[C, H, W]` in [0, 1] of the expected size.
        """
        asked = list(positions)
        begin_to_read(self.read, asked, int, len(self))
        return [self._load(position) for position in asked]

    def _load(self, position: int) -> Sample | Unreadable:
        name, label = self.ids[position], self.labels[position]
        try:
            image = self.read(position)
        except PictureError as error:
            return Unreadable(name, label, str(error))
        check_image(image, name, self.input_shape, self._some)
        return Sample(name, image, label)

    def _some(self) -> list[Tensor]:
        """Return a few images as they are read, whatever their values: what range they use is seen in several."""
        found = []
        for place in range(min(len(self), _SEEN)):
            with contextlib.suppress(AssayError):
                found.append(self.read(place * len(self) // min(len(self), _SEEN)))
        return found


def check_image(
    image: Tensor,
    name: str,
    shape: tuple[int, int, int] | None,
    others: Callable[[], list[Tensor]] = list,
) -> None:
    """Raise `BadInput` naming the sample unless `image` is float32 `[C, H, W]` in [0, 1], of `shape` if given.

    `others` gives more images of the same data, from whose values the error says how to bring them into [0, 1].
    """
    if image.ndim != 3 or image.dtype != torch.float32:
        fix = "Grey images get a channel by image[None]." if image.ndim == 2 else "Give one image per item."
        raise BadInput(
            f"Sample {name!r} is {image.dtype} of shape {list(image.shape)}; expected float32 [C, H, W]. "
            f"{fix} Pillow images and arrays [H, W, C] are converted by torchvision.transforms.ToTensor()."
        )
    check_layout(image, name, shape)
    if shape is not None and tuple(image.shape) != shape:
        fix = (
            "Convert it to the right number of channels."
            if image.shape[0] != shape[0]
            else "Pass the model to load_data so that pictures are resized as its weights want, or give "
            "a model without a size one: my.py:factory?size=224."
        )
        raise BadInput(f"Sample {name!r} has shape {list(image.shape)}; expected {list(shape)}. {fix}")
    low, high = (float(v) for v in torch.aminmax(image)) if image.numel() else (0.0, 0.0)
    if low >= 0 and high <= 1:  # false for NaN
        return
    if not torch.isfinite(image).all():
        bad = int((~torch.isfinite(image)).sum())
        raise BadInput(f"Sample {name!r} has {bad} pixels that are NaN or infinite; expected [0, 1]. Drop it.")
    fix = range_advice([image, *others()])
    raise BadInput(f"Sample {name!r} has pixels from {low:g} to {high:g}; expected [0, 1]. {fix}")


def image_digest(image: Tensor) -> str:
    """Return 16 hexadecimal digits that name the pixels and the shape of an image."""
    digest = hashlib.blake2b(repr(list(image.shape)).encode(), digest_size=8)
    digest.update(image.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_layout(image: Tensor, name: str, shape: tuple[int, int, int] | None = None) -> None:
    """Raise `BadInput` for an image `[H, W, C]`, unless `shape` says that it is meant as `[C, H, W]`."""
    if image.ndim != 3 or tuple(image.shape) == shape or not is_channels_last(tuple(image.shape)):
        return
    raise BadInput(
        f"Sample {name!r} has shape {list(image.shape)}, which looks like [H, W, C]; expected [C, H, W]. Put the "
        "channels first: image.permute(2, 0, 1) for a tensor, image.transpose(2, 0, 1) for an array "
        "([0, 3, 1, 2] of four axes for a whole batch)."
    )


def is_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether a shape of three numbers is that of an image `[H, W, C]` rather than `[C, H, W]`."""
    first, second, last = shape
    if last not in (1, 3, 4) or first in (1, 3) or first == last:
        return False
    return first == second or min(first, second) > 4


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

    def ahead(self, asked: Sequence[int], position: Callable[[int], int], count: int) -> None:
        """Let the reader begin."""
        begin_to_read(self.read, asked, lambda one: self.positions[position(one)], count)


@dataclasses.dataclass(frozen=True)
class KnownChecksums:
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
