"""How many images a table is of, and roughly how many passes they cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.paper.choices import Choices
from assay.paper.patches import BATCH, EPOCHS, HELD_OUT
from assay.paper.studies import filled_in, patch_files, raw_study

if TYPE_CHECKING:
    from assay.evaluation.study.spec import Grid

CLASSES, DIGITS = 1000, 10_000
"""How many classes ImageNet has, and how many test images MNIST."""


@dataclasses.dataclass(frozen=True)
class Rough:
    """The images of a study, and the most forward and backward passes that it takes, training of patches included."""

    images: int
    forwards: int
    backwards: int


def rough(name: str) -> Rough:
    """Return what a study of the paper costs with ImageNet."""
    raw = raw_study(name)
    if list(patch_files(raw)):
        return _of_patches(raw, _images(raw["data"]))
    from assay.evaluation.study.spec import Study

    study = Study.of(filled_in(raw, Choices(Path("OUT"), Path("DIR")), lambda: [raw["data"]]))
    images = [_images(grid.get("data", raw.get("data"))) for grid in raw.get("grids", [raw])]
    each = [(n, *_passes(grid)) for n, grid in zip(images, study.grids, strict=True)]
    return Rough(max(images), sum(n * one for n, one, _ in each), sum(n * two for n, _, two in each))


def _images(data: Any) -> int:
    if not isinstance(data, dict):
        return DIGITS
    if "ids" in data:
        return len(data["ids"])
    if "limit" in data:
        return int(data["limit"])
    held_out = data.get("part", "").removeprefix("held-out ")
    return int(held_out) if held_out else CLASSES * int(data["per_class"])


def _passes(grid: Grid) -> tuple[int, int]:
    """Return the passes of one image in all cells of a grid."""
    from assay.evaluation.cell import Cell
    from assay.evaluation.passes import passes_per_sample

    forwards = backwards = 0
    for model in grid.models:
        for attack in grid.attacks:
            for threat in grid.threats:
                # what a cell costs depends on its attack and budgets alone
                cell = Cell(
                    model, "", "", grid.data[0], "", "", 1, attack, 1, threat, grid.question, grid.goal, grid.order,
                    grid.seed, 1,
                )  # fmt: skip
                cost = passes_per_sample(cell)
                forwards, backwards = forwards + cost.forwards, backwards + cost.backwards
    return forwards, backwards


def _of_patches(raw: dict[str, Any], images: int) -> Rough:
    """Return one look at every image and one at each placement, and a step of training for each image and epoch."""
    looks = sum(1 + len(grid["threats"][0]["eps"]) for grid in raw["grids"] for _ in grid["attacks"])
    trained = len(list(patch_files(raw))) * EPOCHS * ((CLASSES * raw["data"]["per_class"] - HELD_OUT) // BATCH) * BATCH
    return Rough(images, images * looks + trained, trained)
