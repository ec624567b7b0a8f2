"""Files of other bands than 8-bit grey and colour: TIFFs of many bands or pages, and 16 bits in several channels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from assay.data.held import PictureFile, for_library
from assay.data.written_labels import Reading

Bands = NDArray[np.float32]

_TIFF = (".tif", ".tiff")
_SAMPLES_PER_PIXEL, _BITS_PER_SAMPLE = 277, 258
_SINGLE = ("L", "I", "F", "1")


def banded(path: PictureFile, channels: int, reading: Reading) -> Bands | None:
    """Return all bands of a file, float32 `[C, H, W]` in [0, 1], where it is no 8-bit picture to be converted.

    That is a TIFF which Pillow does not read, one whose pages are the channels, and everything where more than four
    channels are wanted. None for any other picture. Raises `ValueError` for another number of bands.
    """
    if path.suffix.lower() not in _TIFF:
        if channels <= 4:
            return None
        with Image.open(for_library(path)) as image:
            raise ValueError(_other_bands(len(image.getbands()), channels))
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        try:
            with Image.open(for_library(path)) as image:
                # of planes that are stored apart, Pillow gives the first alone
                samples = getattr(image, "tag_v2", {}).get(_SAMPLES_PER_PIXEL, 1)
                if samples <= len(image.getbands()):
                    return _pages(image, channels, reading)
        except UnidentifiedImageError:
            pass
    values = _by_tifffile(path)
    if len(values) != channels:
        raise ValueError(_other_bands(len(values), channels))
    return _shares(values, reading.white)


def _pages(image: Image.Image, channels: int, reading: Reading) -> Bands | None:
    """Return the pages of a TIFF that Pillow reads as bands, where they are as many as the channels."""
    pages = getattr(image, "n_frames", 1)
    if channels not in (1, 3) and pages == channels and image.mode.startswith(_SINGLE):
        # Pillow widens signed 16-bit values
        white = reading.white or (65535.0 if image.mode == "I" else None)
        return _shares(np.stack([_page(image, at) for at in range(pages)]), white)
    if channels > 4:
        raise ValueError(_other_bands(max(pages, len(image.getbands())), channels))
    return None


def is_deep(image: Image.Image) -> bool:
    """Say whether an opened file holds 16 bits in several channels, of which Pillow keeps the upper eight."""
    return len(image.getbands()) > 1 and any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def deep_values(path: PictureFile) -> NDArray[Any]:
    """Return the values of such a file as they are stored, `[C, H, W]`."""
    if path.suffix.lower() in _TIFF:
        return _by_tifffile(path)
    import torch

    data = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    try:
        # torchvision 0.29 warns that its decoders will leave it one day
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            from torchvision.io import ImageReadMode, decode_image

            values: NDArray[Any] = decode_image(data, ImageReadMode.UNCHANGED).numpy()
    except (RuntimeError, ImportError) as error:
        raise ValueError(f"16 bits in several channels cannot be read here, only one or 8 bits: {error}") from error
    return values


def scaled(values: NDArray[Any], white: float) -> NDArray[np.uint8]:
    """Return values from 0 to `white` as 8 bits; raises `ValueError` for any outside."""
    check_range(values, white)
    return np.rint(values.astype(np.float64) * (255 / white)).astype(np.uint8)


def check_range(values: NDArray[Any], white: float, where: str = "") -> None:
    """Raise `ValueError` unless all values lie between 0 and `white`."""
    # false for NaN
    if not (values.min() >= 0 and values.max() <= white):
        found = f"values from {values.min():g} to {values.max():g}{where}"
        fix = "Shift them, so that black is 0."
        if values.min() >= 0:
            fix = f"If white is another value, say it, such as folder:DIR?white={values.max():g}."
        raise ValueError(f"{found}; expected 0 to {white:g}. {fix}")


def _shares(values: NDArray[Any], white: float | None) -> Bands:
    if white is None:
        white = float(np.iinfo(values.dtype).max) if np.issubdtype(values.dtype, np.integer) else 1.0
    check_range(values, white)
    return (values.astype(np.float64) / white).astype(np.float32)


def _page(image: Image.Image, at: int) -> NDArray[Any]:
    image.seek(at)
    values: NDArray[Any] = np.asarray(image)
    return values.astype(np.uint8) * 255 if values.dtype == bool else values


def _by_tifffile(path: PictureFile) -> NDArray[Any]:
    """Return the values `[C, H, W]` of a TIFF, read by tifffile (extra `tiff`)."""
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise ValueError(f"{_described(path)}, which Pillow does not read. pip install 'assay[tiff]'") from error
    try:
        with tifffile.TiffFile(for_library(path)) as file:
            series = file.series[0]
            values, axes = series.asarray(), series.axes
    except (tifffile.TiffFileError, KeyError, IndexError, RuntimeError) as failure:
        raise ValueError(f"{_described(path)} that could not be read: {failure}") from failure
    kept = [at for at, name in enumerate(axes) if name in "YX" or values.shape[at] > 1]
    values, axes = values.reshape([values.shape[at] for at in kept]), "".join(axes[at] for at in kept)
    others = [at for at, name in enumerate(axes) if name not in "YX"]
    if len(others) > 1 or "Y" not in axes or "X" not in axes:
        raise ValueError(f"a TIFF of axes {axes} {values.shape}; expected height, width and bands")
    return np.moveaxis(values, others[0], 0) if others else values[None]


def _described(path: PictureFile) -> str:
    try:
        with path.open("rb") as file:
            tags = ImageFileDirectory_v2(file.read(8))
            file.seek(tags.next)
            tags.load(file)
            bits = tags.get(_BITS_PER_SAMPLE, (1,))
            return f"a TIFF of {tags.get(_SAMPLES_PER_PIXEL, 1)} bands of {bits[0]} bits"
    except (SyntaxError, ValueError, OSError, KeyError, TypeError):
        return "no TIFF"


def _other_bands(found: int, channels: int) -> str:
    return (
        f"a picture of {found} bands; the model takes {channels} channels. Say how many it takes, such as "
        f"my.py:factory?channels={found}, or give pictures of {channels} bands"
    )
