"""MNIST-C's corruptions (Mu and Gilmer 2019) for grey images of 28 x 28 pixels, from the published parameters.

Motion blur stands in for ImageMagick's: the same kernel, moved by whole pixels. Random draws are our own, so that the
images are not those of the published files, but of their distribution. All values are rounded down to 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from assay.core.errors import BadInput

Image = NDArray[Any]

_SIDE = 28
_MIDDLE = (_SIDE - 1) / 2
_REACH = 2.3
"""How far from its middle a drawn line has ink, in pixels."""


def shot_noise(x: Image, amount: float, rng: Generator) -> Image:
    """Count photons: Poisson draws with a mean of `amount` at white."""
    counts: Image = rng.poisson(x * amount)
    return counts / amount


def impulse_noise(x: Image, amount: float, rng: Generator) -> Image:
    """Set a share of the pixels to white or black, either half of the time."""
    hit, white = rng.random(x.shape) <= amount, rng.random(x.shape) <= 0.5
    return np.where(hit, white.astype(float), x)


def glass_blur(x: Image, options: tuple[float, int, int], rng: Generator) -> Image:
    """Blur, swap pixels with near ones, and blur again; the published blurs are along the columns alone."""
    sigma, reach, rounds = options
    blurred = np.floor(_blurred(x, (sigma, 0)) * 255)
    places = [(row, column) for row in range(_SIDE - reach, reach, -1) for column in range(_SIDE - reach, reach, -1)]
    for _ in range(rounds):
        swapped = rng.random(len(places)) < 0.5
        moves = rng.integers(-reach, reach, (len(places), 2))
        for at in swapped.nonzero()[0]:
            here, there = places[at], (places[at][0] + moves[at, 0], places[at][1] + moves[at, 1])
            blurred[here], blurred[there] = blurred[there], blurred[here]
    return _blurred(blurred / 255, (sigma, 0))


def motion_blur(x: Image, options: tuple[int, float], rng: Generator) -> Image:
    """Blur along a line at -45 to 45 degrees, by half a Gaussian that reaches twice the radius."""
    radius, sigma = options
    return moved(x, 2 * radius + 1, sigma, rng.uniform(-45, 45))


def moved(x: Image, width: int, sigma: float, degrees: float) -> Image:
    """Return the mean of `x` over `width` whole-pixel moves along an angle, weighted by half a Gaussian."""
    kernel = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    rows, columns, total = np.arange(x.shape[0]), np.arange(x.shape[1]), np.zeros(x.shape)
    angle = math.radians(degrees)
    for at, weight in enumerate(kernel):
        down, right = (-math.ceil(at * part - 0.5) for part in (math.sin(angle), math.cos(angle)))
        if abs(down) >= len(rows) or abs(right) >= len(columns):
            break
        # the edge is repeated
        place = np.ix_(np.clip(rows - down, 0, len(rows) - 1), np.clip(columns - right, 0, len(columns) - 1))
        total += weight * x[place]
    return total


def shear(x: Image, angle: float, rng: Generator) -> Image:
    """Shear to either side."""
    angle *= rng.choice((-1, 1))
    return _warped(x, ((math.cos(angle), 0), (-math.sin(angle), 1)))


def rotate(x: Image, angle: float, rng: Generator) -> Image:
    """Rotate by an angle in radians, in either direction."""
    angle *= rng.choice((-1, 1))
    sine, cosine = math.sin(angle), math.cos(angle)
    return _warped(x, ((cosine, sine), (-sine, cosine)))


def scale(x: Image, factor: float, rng: Generator) -> Image:
    """Make the digit smaller: `factor` pixels become one."""
    return _warped(x, ((factor, 0), (0, factor)))


def translate(x: Image, pixels: int, rng: Generator) -> Image:
    """Move by whole pixels, diagonally."""
    down, right = pixels * rng.choice((-1, 1), 2)
    return _warped(x, ((1, 0), (0, 1)), (down, right))


def brightness(x: Image, amount: float, rng: Generator) -> Image:
    """Add `amount` to every pixel."""
    return x + amount


def stripe(x: Image, amount: None, rng: Generator) -> Image:
    """Invert the seven columns at either side."""
    sides = (np.arange(_SIDE) < 7) | (np.arange(_SIDE) >= 21)
    return np.where(sides, 1 - x, x)


def fog(x: Image, options: tuple[float, float], rng: Generator) -> Image:
    """Lay a cloud over the image."""
    amount, decay = options
    brightest = float(x.max())
    clouded: Image = x + amount * cloud(256, decay, rng)[:_SIDE, :_SIDE]
    return clouded * brightest / (brightest + amount)


def cloud(side: int, decay: float, rng: Generator) -> Image:
    """Return heights in [0, 1] of shape `[side, side]` (a power of two) that repeat at the edges (diamond-square)."""
    heights, step, rough = np.zeros((side, side)), side, 100.0

    def between(total: Image) -> Image:
        return total / 4 + rough * rng.uniform(-rough, rough, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = between(pairs + np.roll(pairs, -1, 1))
        middles, corners = heights[half::step, half::step], heights[::step, ::step]
        beside = middles + np.roll(middles, 1, 0) + corners + np.roll(corners, -1, 1)
        heights[::step, half::step] = between(beside)
        below = middles + np.roll(middles, 1, 1) + corners + np.roll(corners, -1, 0)
        heights[half::step, ::step] = between(below)
        step, rough = half, rough / decay
    heights -= heights.min()
    heights /= heights.max()
    return heights


def spatter(x: Image, options: tuple[float, float, float, float, float], rng: Generator) -> Image:
    """Splash mud of a dark grey."""
    mean, deviation, sigma, least, softness = options
    liquid = _blurred(rng.normal(mean, deviation, x.shape), (sigma, sigma))
    mud = _blurred((liquid > least).astype(float), (softness, softness))
    mud[mud < 0.8] = 0
    muddy: Image = x * (1 - mud) + 63 / 255 * mud
    return muddy


def dotted_line(x: Image, amount: None, rng: Generator) -> Image:
    """Draw a line of dots from the left to the right edge."""
    first, last = rng.integers(0, 27, 2)
    line = _line(0, first, 27, last)
    return x + np.where(np.arange(_SIDE) // 2 % 2 == 1, line, 0)


def zigzag(x: Image, amount: None, rng: Generator) -> Image:
    """Draw a zigzag of twelve strokes or so across the image."""
    left, right, wide = 2.0, 25.0, 2.0
    first = rng.integers(0, 27)
    angle = math.atan(rng.integers(-5, 5) / (right - left))
    length = (right - left) / math.cos(angle)
    along = [0.0, *(wide * (2 * at + 1) for at in range(int((length - wide) // (2 * wide)) + 1))]
    across = [0.0, *(wide * (-1) ** at for at in range(len(along) - 1))]
    whole = 2 * wide * (length // (2 * wide))
    if length != whole:
        along, across = [*along, length], [*across, across[-1] / (2 * (length - whole))]
    columns = [left + math.cos(angle) * a - math.sin(angle) * b for a, b in zip(along, across, strict=True)]
    rows = [first + math.sin(angle) * a + math.cos(angle) * b for a, b in zip(along, across, strict=True)]
    for at in range(1, len(rows)):
        x = np.clip(x + _line(columns[at - 1], rows[at - 1], columns[at], rows[at]), 0, 1)
    return x


def canny_edges(x: Image, amount: None, rng: Generator) -> Image:
    """Keep the edges alone (Canny 1986): sigma 1, thresholds .1 and .2."""
    from scipy import ndimage

    # what lies outside counts as nothing, not as black
    smooth = ndimage.gaussian_filter(x, 1, mode="constant")
    smooth /= ndimage.gaussian_filter(np.ones(x.shape), 1, mode="constant") + np.finfo(float).eps
    down, right = ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)
    strength = np.hypot(down, right)
    ridge = _ridges(strength, down, right) & (strength >= 0.1)
    pieces, count = ndimage.label(ridge, np.ones((3, 3)))
    strong = np.zeros(count + 1, bool)
    strong[pieces[ridge & (strength >= 0.2)]] = True
    kept: Image = strong[pieces].astype(float)
    return kept


def _ridges(strength: Image, down: Image, right: Image) -> Image:
    """Return where `strength` is at least what it is one step up and one step down the slope, interpolated."""
    kept = np.zeros(strength.shape, bool)
    inner = (slice(1, -1), slice(1, -1))
    dy, dx, here = down[inner], right[inner], strength[inner]
    steep = np.abs(dy) > np.abs(dx)
    long, short = np.where(steep, dy, dx), np.where(steep, dx, dy)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.abs(short) / np.abs(long)
    rows, columns = np.indices(here.shape) + 1
    up, along = np.where(dy >= 0, 1, -1), np.where(dx >= 0, 1, -1)
    higher = np.ones(here.shape, bool)
    for sign in (1, -1):
        straight = strength[rows + sign * up * steep, columns + sign * along * ~steep]
        diagonal = strength[rows + sign * up, columns + sign * along]
        higher &= straight + share * (diagonal - straight) <= here
    kept[inner] = higher & (here > 0)
    return kept


def _blurred(x: Image, sigma: tuple[float, float]) -> Image:
    from scipy import ndimage

    blurred: Image = ndimage.gaussian_filter(x, sigma, mode="nearest")
    return blurred


def _warped(x: Image, matrix: Sequence[Sequence[float]], offset: Sequence[float] = (0, 0)) -> Image:
    """Return `x` at `matrix` @ (row, column) + `offset`, both from the middle of the image; black outside."""
    from scipy import ndimage

    middle = np.full(2, _MIDDLE)
    start = middle - np.asarray(matrix) @ middle + np.asarray(offset)
    warped: Image = ndimage.affine_transform(x, matrix, start, order=1, mode="grid-constant")
    return warped


def _line(column0: float, row0: float, column1: float, row1: float) -> Image:
    """Return the ink of a line that fades to its sides, from `column0` up to `column1`."""
    columns = np.arange(_SIDE)
    slope = (row1 - row0) / (column1 - column0)
    apart = np.abs(np.arange(_SIDE)[:, None] - (slope * (columns - column0) + row0))
    ink = np.log(1 - np.clip(apart, 0, _REACH - 1e-10) / _REACH) + 1
    drawn = (columns >= math.floor(column0)) & (columns < math.ceil(column1))
    return np.where(drawn, np.clip(ink, 0, 1), 0)


_TABLE: Mapping[str, tuple[Callable[[Image, Any, Generator], Image], int, tuple[Any, ...]]] = {
    "shot-noise": (shot_noise, 5, (60.0, 25.0, 12.0, 5.0, 3.0)),
    "impulse-noise": (impulse_noise, 4, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "glass-blur": (glass_blur, 1, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion-blur": (motion_blur, 1, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "shear": (shear, 2, (0.2, 0.4, 0.6, 0.8, 1.0)),
    "scale": (scale, 3, (1 / 0.9, 1 / 0.8, 1 / 0.7, 1 / 0.6, 1 / 0.5)),
    "rotate": (rotate, 2, (0.2, 0.4, 0.6, 0.8, 1.0)),
    "brightness": (brightness, 5, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "translate": (translate, 3, (1, 2, 3, 4, 5)),
    "stripe": (stripe, 1, (None,)),
    "fog": (fog, 5, ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))),
    "spatter": (
        spatter, 4,
        ((0.65, 0.3, 4, 0.69, 0.6), (0.65, 0.3, 3, 0.68, 0.6), (0.65, 0.3, 2, 0.68, 0.5), (0.65, 0.3, 1, 0.65, 1.5),
         (0.67, 0.4, 1, 0.65, 1.5)),
    ),
    "dotted-line": (dotted_line, 1, (None,)),
    "zigzag": (zigzag, 1, (None,)),
    "canny-edges": (canny_edges, 1, (None,)),
}  # fmt: skip
# name -> how it is drawn, the published severity, and what each severity is

PUBLISHED: Mapping[str, int] = {kind: published for kind, (_, published, _) in _TABLE.items()}
"""The corruptions of MNIST-C, in its order, with the severity of its files."""


def levels(kind: str) -> int:
    """Return how many severities a corruption has."""
    return len(_TABLE[kind][2])


def check(shape: tuple[int, ...], where: str) -> None:
    """Raise `BadInput` for images of a shape (C, H, W) other than that of MNIST."""
    if shape != (1, _SIDE, _SIDE):
        raise BadInput(f"{where} has images of shape {list(shape)}; MNIST-C's corruptions are for [1, 28, 28].")


def render(kind: str, pixels: Image, severity: int, seed: int) -> Image:
    """Return the image (uint8 `[28, 28, 1]`), corrupted."""
    draw, _, amounts = _TABLE[kind]
    changed = draw(pixels[..., 0] / 255.0, amounts[severity - 1], np.random.default_rng(seed))
    # a hair of rounding must not cost a grey level
    return np.floor(np.clip(changed, 0, 1) * 255 + 1e-6).astype(np.uint8)[..., None]
