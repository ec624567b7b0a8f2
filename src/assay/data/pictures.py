"""Picture files: which can be read here, and how one becomes an image."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from assay.data.bands import Bands, banded, check_range, deep_values, is_deep, scaled
from assay.data.dataset import PictureError, begin_to_read
from assay.data.held import Held, PictureFile, for_library, picture_file
from assay.data.written_labels import Reading
from assay.models.classifier import Preprocess
from assay.models.prepared import prepared_picture

# what people keep pictures in; the rest of what Pillow reads is taken too
USUAL = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
HEIF = (".heic", ".heif", ".hif")
# formats that Pillow knows by name, but whose pixels it does not decode by itself
_STUBS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})


@functools.cache
def picture_endings() -> frozenset[str]:
    """Return the endings (lower case, with the dot) of all picture files that can be read on this machine."""
    from PIL import Image

    registered = Image.registered_extensions()
    read = {ending for ending, kind in registered.items() if kind in Image.OPEN and kind not in _STUBS}
    return frozenset({*USUAL, *read, *(HEIF if _has_heif() else ())})


@functools.cache
def prepare_pillow() -> None:
    """Let Pillow read HEIF pictures where the plug-in for them (extra `heif`) is installed."""
    if _has_heif():
        import pillow_heif

        pillow_heif.register_heif_opener()


def _has_heif() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


def way_out(ending: str) -> str:
    """Return what a user can do about pictures of this ending that are not read here; "" where it is no picture."""
    if ending in HEIF:
        return "for .heic and .heif: pip install 'assay[heif]'"
    if ending in (".jxl", ".avif", ".avifs", ".jp2", ".webp", ".raw", ".cr2", ".nef", ".arw", ".dng", ".svg"):
        return f"convert {ending} to .png"
    if ending in (".npy", ".npz", ".mat", ".dcm", ".nii", ".h5", ".hdf5"):
        return f"arrays in {ending} are no pictures: read them in a torch Dataset"
    return ""


def ending_by_content(path: str) -> str:
    """Return the usual ending of the picture that a file holds, whatever it is called; "" where it holds none."""
    beginnings = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n": ".png", b"GIF8": ".gif"}
    beginnings |= {b"II*\0": ".tif", b"MM\0*": ".tif"}
    try:
        with Path(path).open("rb") as file:
            head = file.read(12)
    except OSError:
        return ""
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return ".webp"
    return next((ending for begins, ending in beginnings.items() if head.startswith(begins)), "")


_USUAL = Reading()
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# what Pillow's decoders raise on damaged files, and ours on what they cannot use
_FAILURES = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, Image.DecompressionBombError)


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Reader of picture files as images of so many `channels`; pickled with its list of paths or of far files.

    Grey (1), grey with transparency (2), RGB (3) and RGB with transparency (4) are 8-bit pictures; of any other number,
    the bands of the file are taken as they are.
    """

    paths: Sequence[str | Path | Held]
    channels: int
    preprocess: Preprocess | None
    reading: Reading = _USUAL

    def __call__(self, position: int) -> Tensor:
        """Return the picture at `position` as float32 `[C, H, W]`; raises `PictureError` when it cannot be read."""
        path = picture_file(self.paths[position])
        try:
            bands = banded(path, self.channels, self.reading)
            if bands is not None:
                return bands_tensor(bands, self.preprocess)
            return picture_tensor(decode(path, self.channels, self.reading), self.preprocess)
        except _FAILURES as error:
            raise PictureError(f"{path.name}: {str(error) or type(error).__name__}") from error

    def ahead(self, asked: Sequence[int], position: Callable[[int], int], count: int) -> None:
        """Begin to fetch files that lie elsewhere."""
        begin_to_read(self.paths, asked, position, count)


def decode(path: PictureFile, channels: int, reading: Reading = _USUAL) -> Image.Image:
    """Return the (first frame of the) picture, 8-bit, with 1 to 4 channels.

    Raises `PictureError` saying what is wrong.
    """
    prepare_pillow()
    try:
        # Pillow warns of damaged metadata, which no pixel depends on
        with warnings.catch_warnings(action="ignore", category=UserWarning), Image.open(for_library(path)) as image:
            deep = reading.white is not None and is_deep(image)
            image.load()
            whole = _deep(image, path, reading) if deep else image
            upright = ImageOps.exif_transpose(whole) if reading.upright else whole
            return to_eight_bits(upright, channels, None if deep else reading.white)
    except _FAILURES as error:
        raise PictureError(f"{path.name}: {str(error) or type(error).__name__}") from error


def _deep(image: Image.Image, path: PictureFile, reading: Reading) -> Image.Image:
    values = scaled(deep_values(path), reading.white or 1.0)
    exact = Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0)))
    exact.info = image.info
    return exact


def to_eight_bits(image: Image.Image, channels: int, white: float | None = None) -> Image.Image:
    """Return an image of any mode as 8-bit "L" (1 channel), "LA" (2), "RGB" (3) or "RGBA" (4).

    Transparency is dropped where the channels do not hold it, and opaque where the image has none; four bands of
    another kind (CMYK) stay what they are. `white` is the value that becomes 255: by default 65535 in 16-bit grey
    (Pillow's own conversion clips it at 255) and 1 in floating-point images; in 8-bit images it counts up to 255.
    Raises `ValueError` for values outside and for other numbers of channels.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values, highest = np.asarray(image), white or (1.0 if image.mode == "F" else 65535.0)
        check_range(values, highest, f" in mode {image.mode}")
        image = Image.fromarray(np.rint(values.astype(np.float64) * (255 / highest)).astype(np.uint8))
    elif white is not None and white < 255 and image.mode in _MODES.values():
        image = Image.fromarray(scaled(np.asarray(image), white))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns about it
    if channels == 4 and image.mode in ("CMYK", "RGBX"):
        return image
    coloured = image.mode not in ("1", "L", "LA", "La")
    if channels not in _MODES or (channels == 2 and coloured):
        found = f"a picture of {len(image.getbands())} bands ({image.mode})"
        raise ValueError(
            f"{found}; the model takes {channels} channels. Say how many it takes: my.py:factory?channels=3"
        )
    return image.convert(_MODES[channels])


def picture_tensor(image: Image.Image, preprocess: Preprocess | None) -> Tensor:
    """Return an 8-bit picture as float32 `[C, H, W]` in [0, 1] after the resize and crop of `preprocess`."""
    import torch

    prepared = image if preprocess is None else prepared_picture(image, preprocess)
    values = np.asarray(prepared)
    values = values[:, :, None] if values.ndim == 2 else values
    # as torchvision does it: divided by 255 in float32
    return torch.from_numpy(values.transpose(2, 0, 1).copy()).to(torch.float32).div(255)


def bands_tensor(bands: Bands, preprocess: Preprocess | None) -> Tensor:
    """Return bands `[C, H, W]` in [0, 1] as a tensor, each resized and cropped by itself."""
    import torch

    if preprocess is not None:
        bands = np.stack([np.asarray(prepared_picture(Image.fromarray(band), preprocess)) for band in bands])
    # bicubic and Lanczos go beyond the values they interpolate, which 8-bit pictures cannot
    return torch.from_numpy(np.ascontiguousarray(bands)).clamp(0, 1)
