"""Which endings of file names belong to pictures that can be read here."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

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
