"""A folder to work in: a file of tiny models, folders of tiny pictures, and the command line called in this process."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
from PIL import Image

# before a test puts something else in the place of a function: what is first imported then would keep it
import assay.evaluation.run_study  # noqa: F401
from assay.cli import main

MODELS = '''
import torch
from torch import nn


def linear():
    """Right on every picture: class c is the brightest channel."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3, bias=False))
    weight = torch.zeros(3, 3, 8, 8)
    for c in range(3):
        weight[c, c] = 1.0
    with torch.no_grad():
        network[1].weight.copy_(weight.view(3, -1))
    return network


def probabilities():
    return nn.Sequential(linear(), nn.Softmax(1))


class Around(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.inner, self.change = linear(), change

    def forward(self, x):
        return self.change(self.inner(x))


def pair():
    return Around(lambda logits: (logits, logits))


def nothing_but_nan():
    return Around(lambda logits: logits * float("nan"))


def swapped():
    return Around(lambda logits: logits[:, [1, 2, 0]])


def two_classes():
    return Around(lambda logits: logits[:, :2])


def noisy():
    return Around(lambda logits: logits + torch.randn_like(logits))


def rounding():
    return Around(lambda logits: logits.detach())


def slow():
    import time

    def wait(logits):
        time.sleep(0.02)
        return logits

    return Around(wait)
'''

AUDITED = "run --model toy.py:linear --data folder:pictures --eps 4/255,16/255 --display none --attack fgsm"
# an audit takes ten times as long as the run itself
RUN = f"{AUDITED} --audit off"


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command returned, and what it wrote."""

    code: int
    out: str
    err: str


@dataclasses.dataclass(frozen=True)
class Workplace:
    """A folder with `toy.py` (models) and `pictures` (18 in 3 classes), and a way to call `assay` in it."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def assay(self, line: str, *more: str) -> Said:
        """Run a command line (split at spaces, and `more` as it is) in this process."""
        self.capture.readouterr()
        with pytest.raises(SystemExit) as left:
            main([*line.split(), *more])
        out, err = self.capture.readouterr()
        return Said(int(left.value.code or 0), out, err)


def make_workplace(folder: Path) -> None:
    """Write the models and the pictures."""
    (folder / "toy.py").write_text(MODELS)
    draw = random.Random(0)
    for label in range(3):
        (folder / "pictures" / str(label)).mkdir(parents=True)
        for i in range(6):
            picture = Image.new("RGB", (8, 8))
            for at in range(64):
                pixel = [draw.randint(60, 120) for _ in range(3)]
                # the later ones are brighter, so that budgets break some and not others
                pixel[label] += 20 + 6 * i
                picture.putpixel((at % 8, at // 8), (pixel[0], pixel[1], pixel[2]))
            picture.save(folder / "pictures" / str(label) / f"{i}.png")
