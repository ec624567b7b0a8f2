"""Images as endpoints take them: numbers of a type and an order, or pictures of 8 bits."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np

from assay.core.errors import BadInput
from assay.models.remote.client import Rows

LAYOUTS = ("nchw", "nhwc")

FLOATS = {"FP64": np.float64, "FP32": np.float32, "FP16": np.float16}
INTEGERS = {
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
}  # fmt: skip
TYPES = (*FLOATS, "BF16", *INTEGERS)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Rows as numbers of one type of the Open Inference Protocol, in one order of their sides.

    Integers are the grey levels 0 to 255, and values between two levels are rounded to the nearest: some servers would
    cut them, and say nothing.
    """

    datatype: str = "FP32"
    layout: str = "nchw"

    def __post_init__(self) -> None:
        if self.datatype not in TYPES:
            raise BadInput(f"The endpoint takes {self.datatype}, expected an image as one of {', '.join(TYPES)}.")
        if self.layout not in LAYOUTS:
            raise BadInput(f"layout is {self.layout!r}, expected nchw (channels first) or nhwc (channels last).")

    def of(self, rows: Rows) -> Rows:
        """Return rows `[N, C, H, W]` as they are sent; BF16 as the upper half of its bits, uint16."""
        turned = np.ascontiguousarray(rows.transpose(0, 2, 3, 1)) if self.layout == "nhwc" else rows
        if self.datatype == "BF16":
            return _bfloat16(np.ascontiguousarray(turned, dtype=np.float32))
        if self.datatype in INTEGERS:
            return levels(turned).astype(INTEGERS[self.datatype])
        return np.ascontiguousarray(turned, dtype=FLOATS[self.datatype])

    def in_json(self, rows: Rows) -> Rows:
        """Return rows as `of` does, with the numbers that JSON shall hold."""
        given = self.of(rows)
        return from_bfloat16(given) if self.datatype == "BF16" else in_json(given)

    @property
    def whole(self) -> bool:
        """Whether grey levels are sent."""
        return self.datatype in INTEGERS

    @property
    def loses(self) -> str:
        """Return what of an image does not arrive, "" where all of it does."""
        if self.datatype in ("FP16", "BF16"):
            return f"it takes images as {self.datatype}, so that values of an image are rounded on the way"
        if self.datatype in INTEGERS:
            return (
                f"it takes grey levels 0 to 255 ({self.datatype}): values of an image are rounded to them, and that is "
                "part of what is attacked. With grid=255 what is judged is what arrives"
            )
        return ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """Rows as pictures of 8 bits per channel, `png` (exact) or `jpeg` of a `quality`.

    Values are rounded to the nearest level: the rounding, and what JPEG loses, are part of what is attacked.
    """

    quality: int | None = None

    @property
    def media(self) -> str:
        """Return the media type."""
        return "image/png" if self.quality is None else "image/jpeg"

    def levels(self, row: Rows) -> Rows:
        """Return one row `[C, H, W]` as levels uint8 `[H, W, C]`."""
        return np.ascontiguousarray(levels(row).transpose(1, 2, 0))

    def of(self, row: Rows) -> bytes:
        """Return one row `[C, H, W]`, C 1 or 3, as the bytes of a file. Raises `BadInput` for other channels."""
        from PIL import Image

        pixels = self.levels(row)
        if pixels.shape[2] not in (1, 3):
            raise BadInput(
                f"An image of {pixels.shape[2]} channels is no picture; expected 1 or 3. Send floats instead."
            )
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        stream = io.BytesIO()
        if self.quality is None:
            picture.save(stream, "PNG", compress_level=1)
        else:
            picture.save(stream, "JPEG", quality=self.quality)
        return stream.getvalue()


def levels(rows: Rows) -> Rows:
    """Return values in [0, 1] as the nearest grey levels, uint8 of the same shape."""
    return np.rint(np.clip(rows.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def _bfloat16(values: Rows) -> Rows:
    # to the nearest, ties to even, as the type's hardware rounds
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: Rows) -> Rows:
    """Return float32 of the upper halves uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def in_json(given: Rows) -> Rows:
    """Return numbers as JSON shall hold them: a half as the very number that it stands for."""
    return given.astype(np.float32) if given.dtype == np.float16 else given


def little(values: Rows) -> bytes:
    """Return the bytes of an array, the least significant first."""
    little_endian: Any = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return bytes(little_endian.tobytes())
