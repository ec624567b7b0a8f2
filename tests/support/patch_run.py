"""Table VII with its smallest patches on pictures of 34 x 34: a network of twelve features, and what it answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from assay.evaluation.run import Run
from assay.evaluation.run_study import run_study
from assay.evaluation.study.spec import Study
from assay.models.imagenet import imagenet_classes
from assay.paper.choices import Choices
from assay.paper.patches import patch_orders, train_patches
from assay.paper.runs import TableRun
from assay.paper.studies import filled_in, raw_study

SIDE, IMAGE, HELD_OUT = 32, 34, 3
TARGETS = ("saltshaker", "soap dispenser", "digital clock", "piggy bank", "toaster")
LABELS = (0, 0, 0, 1, 1, 1, imagenet_classes().index("toaster"), imagenet_classes().index("saltshaker"))

# the five targets and 35 other classes can win; the others are far below
MODEL = f"""
import torch
from torch import nn

TARGETS = {[imagenet_classes().index(name) for name in TARGETS]}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        weight, bias = torch.zeros(1000, 12), torch.full((1000,), -50.0)
        some = [*range(35), *TARGETS]
        weight[some] = 4 * torch.randn(len(some), 12, generator=generator)
        bias[some] = 0.0
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x - 0.5, 2).flatten(1) @ self.weight.T + self.bias


def small():
    return Small()


def classifier():
    from assay.models import Classifier
    return Classifier(Small(), input_shape=(3, {IMAGE}, {IMAGE}))
"""


@dataclasses.dataclass(frozen=True)
class PatchRun:
    """A finished run, its patches by target, and where its model and pictures are."""

    run: Run
    orders: dict[str, Path]
    model: str
    data: str


def patch_run(folder: Path, mode: str) -> PatchRun:
    """Train the patches of 32 pixels of Table VII, and measure them, in `folder / out`."""
    model, data = f"{folder}/small.py:classifier", f"folder:{folder}/pictures"
    if not (folder / "small.py").exists():
        (folder / "small.py").write_text(MODEL)
        write_pictures(folder / "pictures")
    name = f"table-vii-{mode.replace('_', '-')}"
    choices = Choices(folder / "out", Path("none"))
    table = TableRun(name, ("VII", "VIII"), (mode,), choices)
    orders = [
        dataclasses.replace(one, model=model, data={"source": data, "part": f"rest {HELD_OUT}"})
        for one in patch_orders(table)
        if one.side == SIDE
    ]
    train_patches(orders)
    raw = filled_in(raw_study(name), choices, list)
    own = {"source": data, **({"part": f"held-out {HELD_OUT}"} if "part" in raw["data"][0] else {})}
    grids = [grid for grid in raw["grids"] if int(grid["threats"][0]["eps"][0]) == 3 * SIDE * SIDE]
    # the model names no classes
    grids = [{**one, "goal": f"targeted {imagenet_classes().index(one['goal'][9:])}"} for one in grids]
    study = Study.of({**raw, "models": [model], "data": [own], "grids": grids})
    return PatchRun(run_study(study, table.directory), {one.target: one.path for one in orders}, model, data)


def write_pictures(folder: Path) -> None:
    """Write eight pictures of noise with the labels `LABELS`."""
    draw = np.random.default_rng(0)
    for i, label in enumerate(LABELS):
        path = folder / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (IMAGE, IMAGE, 3), dtype=np.uint8)).save(path)


def pictures(folder: Path) -> dict[str, tuple[int, torch.Tensor]]:
    """Return label and pixels `[3, 34, 34]` of every picture by id."""
    found = {}
    for path in sorted((folder / "pictures").rglob("*.png")):
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255
        found[f"{path.parent.name}/{path.name}"] = (int(path.parent.name), pixels)
    return found
