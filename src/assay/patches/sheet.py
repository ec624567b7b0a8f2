"""A printable sheet: a patch at a physical size on A4, with what it is and a ruler to check the print with."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import BadInput
from assay.files import write_atomically
from assay.patches.patch import Patch
from assay.patches.pictures import picture_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

DPI = 300
PAGE = (21.0, 29.7)
"""A4, in centimetres."""
_MARGIN, _GAP, _FOOT = 1.5, 0.5, 2.5


def write_sheet(patch: Patch, path: Path, width: float, copies: int = 1) -> None:
    """Write a PDF of one A4 page with `copies` of the patch, each `width` centimetres wide.

    Pixels stay squares with sharp edges. Raises `BadInput` where the copies do not fit on the page.
    """
    places = _places(patch, width, copies)
    page = _blank()
    picture = picture_of(patch).convert("RGBA")
    shown = picture.resize((_dots(width), _dots(_height(patch, width))), 0)
    for x, y in places:
        page.paste(shown, (_dots(x), _dots(y)), shown)
    _foot(page, patch, width)
    stream = io.BytesIO()
    title = f"Adversarial patch {patch.name}"
    # Pillow stores colours as JPEG, which by default blurs the edges of pixels and the colours beside them
    page.save(stream, format="PDF", resolution=DPI, title=title, producer="Assay", quality=100, subsampling=0)
    write_atomically(path, stream.getvalue())


def _places(patch: Patch, width: float, copies: int) -> list[tuple[float, float]]:
    """Return the top left corners of the copies, in centimetres."""
    height = _height(patch, width)
    room = (PAGE[0] - 2 * _MARGIN, PAGE[1] - 2 * _MARGIN - _FOOT)
    if not 0 < width <= room[0] or height > room[1]:
        raise BadInput(
            f"A patch {width:g} cm wide and {height:g} cm high does not fit on A4 within {room[0]:g} x {room[1]:g} cm. "
            "Give another width."
        )
    across, down = (
        int((space + _GAP) / (side + _GAP) + 1e-9) for space, side in zip(room, (width, height), strict=True)
    )
    if not 1 <= copies <= across * down:
        raise BadInput(f"{copies} copies of {width:g} cm asked for; one to {across * down} fit on the page.")
    return [
        (_MARGIN + column * (width + _GAP), _MARGIN + row * (height + _GAP))
        for row in range(down)
        for column in range(across)
    ][:copies]


def _foot(page: Image, patch: Patch, width: float) -> None:
    from PIL import ImageDraw

    pen, font = ImageDraw.Draw(page), _font()
    top = PAGE[1] - _MARGIN - _FOOT + 0.4
    wanted = f"for {patch.target_name}" if patch.target_name else "without a target"
    about = f"Adversarial patch {wanted}, {patch.size} pixels, {width:g} cm wide. Digest {patch.digest}."
    pen.text((_dots(_MARGIN), _dots(top)), about, fill="black", font=font)
    pen.text((_dots(_MARGIN), _dots(top + 0.55)), "Print at 100 %: the ruler is 10 cm long.", fill="black", font=font)
    _ruler(pen, top + 1.5)


def _ruler(pen: ImageDraw, y: float) -> None:
    line = max(1, DPI // 150)
    pen.line([(_dots(_MARGIN), _dots(y)), (_dots(_MARGIN + 10), _dots(y))], fill="black", width=line)
    for mark in range(11):
        x, tall = _MARGIN + mark, 0.3 if mark % 5 == 0 else 0.15
        pen.line([(_dots(x), _dots(y)), (_dots(x), _dots(y - tall))], fill="black", width=line)


def _font() -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size=_dots(0.35))


def _blank() -> Image:
    from PIL import Image

    return Image.new("RGB", (_dots(PAGE[0]), _dots(PAGE[1])), "white")


def _height(patch: Patch, width: float) -> float:
    rows, columns = patch.mask.shape
    return width * rows / columns


def _dots(centimetres: float) -> int:
    return round(centimetres / 2.54 * DPI)
