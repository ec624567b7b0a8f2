"""Files that a visitor may upload and that no picture comes of, or a strange one: made from a seed, harmless to all.

Their sizes are small, whatever they declare; nothing in them is known to trouble a decoder.
"""

from __future__ import annotations

import random
import struct
import zlib

import numpy as np
from PIL import Image

from tests.support.playing import as_bytes

_KINDS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")


def picture(draws: random.Random, mode: str, side: int | None = None) -> Image.Image:
    """Return a small picture of a mode."""
    width, height = (side, side) if side else (draws.randint(1, 40), draws.randint(1, 40))
    noise = np.random.default_rng(draws.randrange(2**32))
    if mode in ("I;16", "F"):
        values = noise.integers(0, 65535, (height, width)).astype(np.uint16)
        return Image.fromarray(values if mode == "I;16" else (values / 65535).astype(np.float32))
    bands = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    values = noise.integers(0, 255, (height, width, bands), dtype=np.uint8)
    if bands == 1:
        whole = Image.fromarray(values[:, :, 0])
        return whole.convert("1") if mode == "1" else whole
    whole = Image.frombytes({2: "LA", 3: "RGB", 4: "CMYK" if mode == "CMYK" else "RGBA"}[bands], (width, height),
                            values.tobytes())  # fmt: skip
    return whole.convert("P") if mode == "P" else whole


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def declared(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG that says it has so many pixels, and holds the first few."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def _truncated(draws: random.Random) -> bytes:
    whole = as_bytes(picture(draws, "RGB"), draws.choice(_KINDS))
    return whole[: draws.randint(0, len(whole) - 1)]


def _mislabelled(draws: random.Random) -> bytes:
    # the beginning of one format, the rest of another
    one, other = (as_bytes(picture(draws, "RGB"), kind) for kind in draws.sample(_KINDS, 2))
    return one[: draws.randint(2, 12)] + other[draws.randint(2, 12) :]


def _flipped(draws: random.Random) -> bytes:
    whole = bytearray(as_bytes(picture(draws, "RGB"), draws.choice(_KINDS)))
    for _ in range(draws.randint(1, 4)):
        # behind the header: what is declared stays small
        whole[draws.randrange(min(60, len(whole) - 1), len(whole))] = draws.randrange(256)
    return bytes(whole)


def _text(draws: random.Random) -> bytes:
    words = [
        "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "hello",
        "%PDF-1.7",
        "%!PS-Adobe-3.0 EPSF",
        "<html>",
        "{}",
        "\0" * 50,
    ]
    return (draws.choice(words) * draws.randint(1, 30)).encode()


def _noise(draws: random.Random) -> bytes:
    return draws.randbytes(draws.randint(0, 3000))


def _oversized(draws: random.Random) -> bytes:
    return declared(draws.choice([20_000, 60_000, 2**31 - 1]), draws.choice([20_000, 90_000, 2**31 - 1]))


def _wide(draws: random.Random) -> bytes:
    return declared(draws.choice([16_385, 200_000]), 1)


def _modes(draws: random.Random) -> bytes:
    mode, kind = draws.choice([
        ("I;16", "PNG"), ("I;16", "TIFF"), ("F", "TIFF"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"),
        ("P", "GIF"),
        ("1", "PNG"), ("1", "TIFF"), ("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("L", "JPEG"), ("L", "BMP"),
    ])  # fmt: skip
    return as_bytes(picture(draws, mode), kind)


def _animated(draws: random.Random) -> bytes:
    frames = [picture(draws, "RGB", side=20) for _ in range(draws.randint(2, 6))]
    kind = draws.choice(["GIF", "WEBP", "PNG", "TIFF"])
    return as_bytes(frames[0], kind, save_all=True, append_images=frames[1:])


def _turned(draws: random.Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = draws.choice([0, 2, 3, 5, 6, 8, 99])
    return as_bytes(picture(draws, "RGB"), "JPEG", exif=exif)


MAKERS = (_truncated, _mislabelled, _flipped, _text, _noise, _oversized, _wide, _modes, _animated, _turned)


def files(count: int, seed: int = 0) -> list[tuple[str, bytes]]:
    """Return so many files with the kind of each."""
    draws = random.Random(seed)
    return [(make.__name__.strip("_"), make(draws)) for _, make in zip(range(count), _in_turn(), strict=False)]


def _in_turn():  # type: ignore[no-untyped-def]  # an endless iterator
    while True:
        yield from MAKERS
