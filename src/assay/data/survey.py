"""A look at a few picture files before they are used: what is in them that would be read otherwise than expected."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from assay.data.bands import deep_values, is_deep
from assay.data.dataset import begin_to_read
from assay.data.held import Held, PictureFile, for_library, picture_file
from assay.data.pictures import prepare_pillow
from assay.data.written_labels import Written
from assay.models.classifier import Classifier, Preprocess

_LOOKED_AT = 24
_DECODED = 8
_ORIENTATION = 0x0112
# Pillow turns TIFF files by itself while it decodes them
_TURNED_BY_PILLOW = "TIFF"


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What the header of a file says, and of a few files their brightest value and faintest opacity."""

    width: int
    height: int
    oriented: bool
    paged: bool
    brightest: float | None
    transparent: bool


def survey(
    paths: Sequence[str] | Sequence[Held], model: Classifier | None, channels: int, written: Written
) -> tuple[str, ...]:
    """Return notes about what a few of the files hold, each with the way out.

    Files that cannot be read are passed over: reading them as samples says why.
    """
    count = min(len(paths), _LOOKED_AT)
    chosen = [at * len(paths) // count for at in range(count)]
    begin_to_read(paths, chosen, int, 0)
    seen = [one for at, place in enumerate(chosen) if (one := _look(paths, place, at < _DECODED)) is not None]
    notes: list[str] = []
    if seen:
        notes += _orientation(seen, written)
        notes += _white(seen, written)
        notes += _transparency(seen, channels)
        notes += _pages(seen, channels)
        notes += _cropping(seen, model)
    return tuple(notes)


def _look(paths: Sequence[str] | Sequence[Held], at: int, decoded: bool) -> _Seen | None:
    prepare_pillow()
    try:
        path = picture_file(paths[at])
        with warnings.catch_warnings(action="ignore"), Image.open(for_library(path)) as image:
            paged = image.format == "TIFF" and getattr(image, "n_frames", 1) > 1
            width, height = image.size
            turned = _is_turned(image)
            brightest, transparent = _values(image, path) if decoded else (None, False)
            return _Seen(width, height, turned, paged, brightest, transparent)
    except Exception:
        # decoders raise what they like on damaged files
        return None


def _is_turned(image: Image.Image) -> bool:
    # looking for what is not before the pixels, Pillow would decode the whole of a PNG
    absent = image.format == "PNG" and not {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"} & {*image.info}
    return image.format != _TURNED_BY_PILLOW and not absent and image.getexif().get(_ORIENTATION, 1) not in (0, 1)


def _values(image: Image.Image, path: PictureFile) -> tuple[float | None, bool]:
    """Return the brightest value of a file of 16 bits, and whether any of it is transparent."""
    if is_deep(image):
        try:
            values = deep_values(path)
            return float(values[: 3 if len(values) > 2 else 1].max()), False
        except ValueError:  # no reader of it here: Pillow gives the upper eight bits
            image.load()
            return 256 * float(np.asarray(image).max()) + 255, False
    if image.mode.startswith("I;16"):
        return float(np.asarray(image).max()), False
    if image.mode in ("RGBA", "LA", "PA"):
        return None, float(np.asarray(image)[:, :, -1].min()) < 255
    return None, False


def _orientation(seen: list[_Seen], written: Written) -> list[str]:
    count = sum(one.oriented for one in seen)
    if not count or "orientation" in written.options:
        return []
    return [
        f"{count} of {len(seen)} pictures looked at have an EXIF orientation: viewers turn them, and as in torchvision "
        "they are read as they are stored, lying on a side. If the model was trained on upright pictures, say "
        f"{written.advise('orientation', 'apply')} (orientation=stored if not)."
    ]


def _white(seen: list[_Seen], written: Written) -> list[str]:
    brightest = max((one.brightest for one in seen if one.brightest is not None), default=0.0)
    bits = next((bits for bits in (8, 10, 12, 14) if brightest < 2**bits), 0)
    if not brightest or not bits or "white" in written.options:
        return []
    return [
        f"The brightest value of a few 16-bit pictures is {brightest:.0f}, expected values up to 65535: they seem to "
        f"hold {bits} bits, and are nearly black. Say {written.advise('white', str(2**bits - 1))} (white=65535 if they "
        "are as they should be)."
    ]


def _transparency(seen: list[_Seen], channels: int) -> list[str]:
    count = sum(one.transparent for one in seen)
    if not count or channels not in (1, 3):
        return []
    return [
        f"{count} of {min(len(seen), _DECODED)} pictures looked at have transparent pixels: their transparency is "
        "dropped, and the colours stored below it are read. A model of 4 channels (channels=4) reads it."
    ]


def _pages(seen: list[_Seen], channels: int) -> list[str]:
    count = sum(one.paged for one in seen)
    if not count or channels not in (1, 3):
        return []
    return [
        f"{count} of {len(seen)} pictures looked at are TIFF files of several pages: the first page alone is read. If "
        "pages are channels, say how many the model takes: my.py:factory?channels=N."
    ]


def _cropping(seen: list[_Seen], model: Classifier | None) -> list[str]:
    """Note pictures that lose their ends, where a size was said and not how pictures come to it."""
    preprocess = model.preprocess if model else None
    # weights that name their classes come with the preprocessing of their authors
    if model is None or model.classes is not None or preprocess is None or not _is_plain(preprocess):
        return []
    wide = [one for one in seen if one.width != one.height]
    if not wide:
        return []
    worst = max(wide, key=lambda one: max(one.width, one.height) / min(one.width, one.height))
    lost = 1 - min(worst.width, worst.height) / max(worst.width, worst.height)
    side = preprocess.resize[0] if preprocess.resize else 0
    return [
        f"{len(wide)} of {len(seen)} pictures looked at are not square and are cropped to their middle (one of "
        f"{worst.width} x {worst.height} loses {100 * lost:.0f} %). If the model was trained on whole pictures, say "
        f"resize={side}x{side} (stretched) or size={side}&pad=black (with bars) instead of size={side}."
    ]


def _is_plain(preprocess: Preprocess) -> bool:
    resize, crop = preprocess.resize, preprocess.crop
    return resize is not None and len(resize) == 1 and crop == (resize[0], resize[0])
