"""Images and labels in files of arrays (npz, HDF5), opened without loading what is not needed."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.core.errors import BadInput, did_you_mean
from assay.data.dataset import Source, is_channels_last
from assay.data.labels import SEVERAL_LABELS, check_labels
from assay.data.spec import take_apart
from assay.models.classifier import Classifier
from assay.models.weights_file import Unavailable


@dataclasses.dataclass(frozen=True)
class Opened:
    """A file, the names of its arrays, and a way to get each: an array, or something that is sliced like one."""

    path: Path
    names: tuple[str, ...]
    array: Callable[[str], Any]


def open_numpy(path: Path, options: dict[str, str]) -> Opened:
    """Open an `.npz` file, or an `.npy` file of images with the file of labels that `label` names beside it.

    An `.npy` file is memory-mapped. Raises `BadInput` for damaged files and for pickled objects.
    """
    if path.suffix.lower() != ".npy":
        try:
            with np.load(path, allow_pickle=False) as archive:
                names = tuple(archive.files)
        except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
            raise BadInput(f"{path} is no .npz file, as numpy.savez writes it, or is damaged.") from error
        return Opened(path, names, lambda name: _member(path, name))
    if "label" not in options:
        raise BadInput(f"{path.name} holds one array; give the labels too: npz:{path}?label=labels.npy.")
    beside = {options[role]: path.parent / options[role] for role in ("label", "target") if role in options}
    files = {options.get("image", "image"): path, **beside}
    return Opened(path, tuple(files), lambda name: _mapped(files[name]))


def _member(path: Path, name: str) -> Any:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"The array {name!r} of {path} cannot be read: {error}. {_PICKLE}") from error


def _mapped(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as an .npy file: {error}. {_PICKLE}") from error


_PICKLE = "Arrays of Python objects are not read, as they may run code: save plain numbers."


def open_hdf5(path: Path, options: dict[str, str]) -> Opened:
    """Open an HDF5 file; arrays inside groups are named by their path. Raises `Unavailable` without h5py."""
    try:
        import h5py
    except ImportError as error:
        raise Unavailable("HDF5 files are read by h5py, which is not installed: pip install 'assay[hdf5]'.") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise BadInput(f"{path} cannot be read as an HDF5 file: {error}.") from error
    names: list[str] = []
    file.visititems(lambda name, one: names.append(name) if isinstance(one, h5py.Dataset) else None)
    return Opened(path, tuple(names), file.__getitem__)


OPTIONS = ("image", "label", "scale", "target")
_IMAGE = ("image", "images", "x", "X", "data", "img", "imgs", "x_test", "X_test", "test_images", "arr_0")
_LABEL = ("label", "labels", "y", "Y", "target", "targets", "y_test", "Y_test", "test_labels", "arr_1")
_MOST = 2**29
"""Bytes of pixels that are read to name the content; of more, images spread over the selection are."""


def npz(name: str, model: Classifier | None) -> Source:
    """Return the images and labels of an `.npz` file, or of `images.npy?label=labels.npy`; see `arrays`."""
    return arrays(name, "npz", open_numpy, model)


def hdf5(name: str, model: Classifier | None) -> Source:
    """Return the images and labels of an HDF5 file; see `arrays`."""
    return arrays(name, "hdf5", open_hdf5, model)


def arrays(
    name: str, scheme: str, opened: Callable[[Path, dict[str, str]], Opened], model: Classifier | None
) -> Source:
    """Return the images and labels of a file of arrays; ids are `FILE/POSITION`.

    Options: `image`, `label`, `target` (arrays; guessed where that is obvious), `scale` (the value of white: pixels
    are divided by it; 255 for bytes). Arrays `[N, H, W]` get a channel, `[N, H, W, C]` are turned. Raises `BadInput`
    for what is missing, has other axes, or labels that are no class numbers.
    """
    written, options = take_apart(name, OPTIONS)
    path = Path(written).expanduser()
    if not path.is_file():
        there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise BadInput(
            f"There is no file {written or 'given'} (from '{scheme}:{name}').{did_you_mean(path.name, there)}"
        )
    file = opened(path, options)
    image = _chosen(file, options.get("image"), _IMAGE, "image")
    pixels, turned, notes = _images(file, image, model)
    labels, more = _labels(file, _chosen(file, options.get("label"), _LABEL, "label"), len(pixels))
    targets = (
        _labels(file, _chosen(file, options["target"], (), "target"), len(pixels))[0] if "target" in options else None
    )
    if targets and model and model.classes:
        check_labels(targets, len(model.classes), f"{path.name}, array {options['target']},")
    reader = Slices(pixels, turned, _scale(options.get("scale"), pixels.dtype, path))
    width = max(5, len(str(len(pixels) - 1)))
    return Source(
        ids=tuple(f"{path.name}/{i:0{width}d}" for i in range(len(pixels))),
        labels=labels,
        classes=None,
        input_shape=reader.shape,
        read=reader,
        content=reader.content,
        notes=(*notes, *more),
        about_pictures=tuple(notes),
        targets=targets,
    )


@dataclasses.dataclass(frozen=True)
class Slices:
    """Reader of an array `[N, …]` of images, whose axes come in the order `turned`, white being `scale`."""

    pixels: Any
    turned: tuple[int, ...]
    scale: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape [C, H, W] of every image."""
        own = (*self.pixels.shape[1:], 1)
        channels, height, width = (own[axis] for axis in self.turned)
        return int(channels), int(height), int(width)

    def __call__(self, position: int) -> Tensor:
        """Return the image at `position`: float32 `[C, H, W]`."""
        image = np.asarray(self.pixels[position])
        image = image[..., None] if image.ndim < len(self.turned) else image
        return torch.from_numpy(np.ascontiguousarray(image.transpose(self.turned)).astype(np.float32)) / self.scale

    def content(self, positions: Sequence[int]) -> str:
        """Return a digest of the pixels at these positions, or of some of them where that is more than 512 MB."""
        bytes_each = max(1, int(np.prod(self.pixels.shape[1:])) * self.pixels.dtype.itemsize)
        most = max(8, _MOST // bytes_each)
        step = -(-len(positions) // most) if positions else 1
        digest = hashlib.blake2b(f"{self.pixels.dtype.name} {self.shape} {self.scale}".encode(), digest_size=16)
        for position in positions[::step]:
            digest.update(np.ascontiguousarray(self.pixels[position]).tobytes())
        return digest.hexdigest()


def _chosen(file: Opened, given: str | None, usual: Sequence[str], role: str) -> str:
    if given is not None:
        if given not in file.names:
            near = did_you_mean(given, file.names)
            raise BadInput(f"{file.path.name} has no array {given!r}.{near} It has {', '.join(file.names)}.")
        return given
    found = [name for name in usual if name in file.names]
    if len(found) == 1:
        return found[0]
    told = f"several arrays that may be it: {', '.join(found)}" if found else f"the arrays {', '.join(file.names)}"
    raise BadInput(f"Which array of {file.path.name} holds the {role}s? There are {told}. Write ?{role}=NAME.")


def _images(file: Opened, name: str, model: Classifier | None) -> tuple[Any, tuple[int, ...], list[str]]:
    """Return the array of images, how its axes come to [C, H, W], and notes."""
    pixels = file.array(name)
    where = f"The array {name!r} of {file.path.name}"
    shape = tuple(int(n) for n in pixels.shape)
    if pixels.dtype.kind not in "uifb" or len(shape) not in (3, 4) or 0 in shape:
        raise BadInput(
            f"{where} is {pixels.dtype} of shape {list(shape)}; expected images [N, C, H, W] or [N, H, W, C]."
        )
    if len(shape) == 3:
        return pixels, (2, 0, 1), [f"{where} is {list(shape)}: read as grey images [N, H, W]."]
    wanted = model.input_shape if model else None
    last = (shape[3], shape[1], shape[2])
    if shape[1:] != wanted and (last == wanted or is_channels_last(shape[1:])):
        return pixels, (2, 0, 1), [f"{where} is {list(shape)}: read as [N, H, W, C]."]
    return pixels, (0, 1, 2), []


def _labels(file: Opened, name: str, count: int) -> tuple[tuple[int, ...], list[str]]:
    """Return class numbers, and notes. Raises `BadInput` for others."""
    values, notes = np.asarray(file.array(name)), []
    where = f"The array {name!r} of {file.path.name}"
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and bool(((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()):
        values, notes = values.argmax(1), [f"{where} is one-hot: labels are the places of its ones."]
    if values.shape != (count,):
        more = f" {SEVERAL_LABELS}" if values.ndim == 2 and len(values) == count else ""
        told = f"{where} has shape {list(values.shape)}; expected one class number for each of {count} images."
        raise BadInput(told + more)
    whole = values.dtype.kind in "uif" and bool(np.isfinite(values).all() and (values == np.round(values)).all())
    if not whole or (count and values.min() < 0):
        told = f"values such as {values[0]!r}" if not whole else f"the label {values.min()}"
        raise BadInput(f"{where} has {told}; expected class numbers, counted from 0.")
    return tuple(values.astype(np.int64).tolist()), notes


def _scale(written: str | None, kind: Any, path: Path) -> float:
    if written is None:
        if kind.kind in "ui" and kind.itemsize > 1:
            raise BadInput(
                f"The images of {path.name} are {kind}; expected bytes, or numbers in [0, 1]. Say which value is "
                "white: ?scale=4095 for 12 bits, 65535 for 16, 16 for scikit-learn's digits."
            )
        return 255.0 if kind.kind in "ui" else 1.0
    try:
        value = float(written)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise BadInput(f"scale is {written!r}; expected a number above 0, the value of white, such as 255.")
    return value
