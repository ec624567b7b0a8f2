"""Pages of text in any of four turns, drawn here: labels are free, and a packaged classifier answers all of them right.

Class k is a page turned by k quarter turns clockwise. The classifier is `packaged("orientation")`; it wants the mean
and std of ImageNet in front of it.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

SIDE = 224
FOLDERS = ("0-up", "1-right", "2-down", "3-left")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPTIONS = "mean=0.485,0.456,0.406&std=0.229,0.224,0.225"
"""What `onnx:FILE?…` has to be told of the classifier."""

_TEXT = """
    the of and a to in is that it was for on are with as his they be at one have this from or had by hot word but
    what some we can out other were all there when up use your how said an each she which do their time if will way
    about many then them write would like so these her long make thing see him two has look more day could go come
    did number sound no most people my over know water than call first who may down side been now find any new work
"""

_WORDS = _TEXT.split()


def page(seed: int, turn: int = 0) -> Image.Image:
    """Return the page of a seed, 224 x 224 RGB, turned by `turn` quarter turns clockwise."""
    draws = random.Random(seed)
    size = draws.choice((18, 20, 22, 24))
    picture = Image.new("RGB", (448, 448), (255, 255, 255))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    ink = draws.randrange(60)
    for y in range(draws.randrange(10, 24), 440 - size, size + draws.choice((6, 8, 10))):
        line = ""
        while pen.textlength(line, font=font) < 448 - 60 - draws.randrange(40):
            line += draws.choice(_WORDS) + " "
        pen.text((20, y), line.capitalize(), fill=(ink, ink, ink), font=font)
    turned = picture.rotate(-90 * turn)
    small = turned.resize((256, 256), Image.Resampling.BILINEAR)
    edge = (256 - SIDE) // 2
    return small.crop((edge, edge, edge + SIDE, edge + SIDE))


def pages(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return `count` pages float32 `[N, 3, 224, 224]` in [0, 1], and labels int64 `[N]`: 0, 1, 2, 3, 0, …"""
    pictures = [page(seed + k // 4, k % 4) for k in range(count)]
    x = torch.stack([tv.pil_to_tensor(one) for one in pictures]).float() / 255
    return x, torch.arange(count) % 4


def folder_of_pages(folder: Path, count: int, seed: int = 0) -> Path:
    """Write `count` pages as PNG into one folder per class (`FOLDERS`, whose order is that of the classes)."""
    for k in range(count):
        into = folder / FOLDERS[k % 4]
        into.mkdir(parents=True, exist_ok=True)
        page(seed + k // 4, k % 4).save(into / f"{k // 4:03}.png")
    return folder
