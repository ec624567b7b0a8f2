"""From the bytes of any file to the image that a model sees, bounded before anything is decoded."""

from __future__ import annotations

import dataclasses
import io
import warnings

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from assay.core.errors import BadInput
from assay.data.bands import is_deep
from assay.data.dataset import PictureError
from assay.data.held import Held
from assay.data.pictures import Pictures, prepare_pillow
from assay.data.written_labels import Reading
from assay.models import Classifier
from assay.models.classifier import Preprocess

FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "HEIF")
"""The formats that are decoded, by Pillow's names; HEIF where its plug-in (extra `heif`) is installed."""

MOST_PIXELS = 24_000_000
MOST_DEEP_PIXELS = 6_000_000
"""Pixels of more than 8 bits a value, which take eight times the memory on their way."""
MOST_SIDE = 16_384
_FREE_SIDE = 512
"""The longer side of pictures for models that take any size."""
_ORIENTATION = 0x0112
_LYING, _TURNED = range(5, 9), range(2, 9)
_TAKEN = "Give a PNG, JPEG, WebP, BMP, GIF or TIFF."


@dataclasses.dataclass(frozen=True)
class Taken:
    """An image `[C, H, W]` float32 in [0, 1] as a model sees it, and what was done to get there."""

    image: Tensor
    note: str


def keep_to_formats() -> None:
    """Let Pillow know the formats of `FORMATS` alone, in this process.

    The others have decoders that few have looked at, some of which run programs.
    """
    Image.init()
    prepare_pillow()
    Image.ID[:] = [name for name in Image.ID if name in FORMATS]


def take(content: bytes, model: Classifier) -> Taken:
    """Return what a file shows, prepared for a model as the data room does it, upright by its EXIF.

    Raises `BadInput` with a sentence for what is no picture, for damaged ones, and for those that declare more pixels
    than `MOST_PIXELS`, before they are decoded.
    """
    notes, before = _looked_at(content)
    channels = model.input_shape[0] if model.input_shape else model.channels or 3
    try:
        with warnings.catch_warnings(action="ignore"):
            how = _preparation(model, before)
            image = Pictures((Held("picture", content),), channels, how, Reading(upright=True))(0)
    except PictureError as error:
        why = str(error).removeprefix("picture: ").rstrip(".")
        raise BadInput(f"The picture cannot be read: {why}. Save it again as PNG.") from error
    except Exception as error:
        # decoders raise whatever they like on damaged files
        raise BadInput(f"The picture cannot be read: {type(error).__name__}. Save it again as PNG.") from error
    if tuple(image.shape[1:]) != before:
        notes.append(f"resized or cropped from {before[1]} × {before[0]} to {image.shape[2]} × {image.shape[1]}")
    told = "; ".join(notes)
    return Taken(image, f"{told[0].upper()}{told[1:]}." if told else "")


def _looked_at(content: bytes) -> tuple[list[str], tuple[int, int]]:
    """Return what is to be said of a file by its header, and its upright (height, width); nothing is decoded here."""
    if not content:
        raise BadInput(f"The file is empty. {_TAKEN}")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=_known()) as image:
            width, height = image.size
            deep = is_deep(image) or image.mode[:1] in ("I", "F")
            _check_size(width, height, deep=deep)
            # Pillow says the size of an upright TIFF by itself
            notes, lies = _notes(image), image.format != "TIFF" and image.getexif().get(_ORIENTATION) in _LYING
    except BadInput:
        raise
    except UnidentifiedImageError as error:
        raise BadInput(f"The file is no picture that can be read. {_TAKEN}") from error
    except Image.DecompressionBombError as error:
        raise BadInput(f"The picture is too large: {MOST_PIXELS:,} pixels at most. Make it smaller first.") from error
    except Exception as error:
        raise BadInput(f"The picture is damaged or cut short ({type(error).__name__}). {_TAKEN}") from error
    return notes, (width, height) if lies else (height, width)


def _check_size(width: int, height: int, *, deep: bool) -> None:
    most = MOST_DEEP_PIXELS if deep else MOST_PIXELS
    if width < 1 or height < 1:
        raise BadInput(f"The picture is {width} × {height} pixels; expected 1 × 1 or more.")
    if width * height > most or max(width, height) > MOST_SIDE:
        what = "a picture of more than 8 bits a value" if deep else "a picture"
        raise BadInput(
            f"The picture says that it is {width:,} × {height:,} pixels; expected {most:,} pixels and sides of "
            f"{MOST_SIDE:,} at most for {what}. It was not decoded. Make it smaller first."
        )


def _known() -> list[str]:
    return [name for name in FORMATS if name in Image.OPEN]


def _notes(image: Image.Image) -> list[str]:
    notes = []
    if getattr(image, "is_animated", False):
        notes.append("the first of several pictures in the file")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        notes.append("transparency dropped")
    if image.mode == "CMYK":
        notes.append("CMYK turned to RGB")
    if image.mode[:1] in ("I", "F"):
        notes.append("more than 8 bits a value, rounded to 8")
    if image.getexif().get(_ORIENTATION) in _TURNED:
        notes.append("turned upright as its EXIF says")
    return notes


def _preparation(model: Classifier, size: tuple[int, int]) -> Preprocess | None:
    if model.preprocess is not None:
        return model.preprocess
    if model.input_shape is not None:
        wanted = (model.input_shape[1], model.input_shape[2])
        return None if wanted == size else Preprocess(resize=wanted)
    longest = max(size)
    if longest <= _FREE_SIDE:
        return None
    height, width = (max(1, round(side * _FREE_SIDE / longest)) for side in size)
    return Preprocess(resize=(height, width))


def checked_picture(content: bytes) -> Image.Image:
    """Return a picture file as RGBA, bounded as those that models see. Raises `BadInput` with a sentence."""
    _looked_at(content)
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=_known()) as image:
            return image.convert("RGBA")
    except Exception as error:
        raise BadInput(f"The picture cannot be read: {type(error).__name__}. Save it again as PNG.") from error
