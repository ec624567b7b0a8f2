"""What the figures of patches are drawn from: the patches themselves, and images that carry one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import BadInput
from assay.paper.inputs import Panel
from assay.paper.runs import directory_of
from assay.paper.tables import AS_PUBLISHED, CORRECTED, PROTOCOLS, printed_table
from assay.report.breakdown import class_names, name_of
from assay.report.gallery import bars

if TYPE_CHECKING:
    from torch import Tensor

    from assay.evaluation.records.gallery import Picture
    from assay.evaluation.run import Run

_TABLES = {4: "VII", 5: "IX", 6: "XI"}


def kept_patches(out: Path) -> dict[tuple[str, int], Tensor]:
    """Return the trained patches of one network and mode by (target, side): the paper's first network, if it is there.

    Corrected ones stand in for published ones, and other networks for the first, those of the stand-in last.
    """
    from assay.patches import Patch

    for folder in ("patches", "patches-stand-in"):
        for mode in (AS_PUBLISHED, CORRECTED):
            for table in _TABLES.values():
                found = {}
                network = PROTOCOLS[table].networks[0]
                for row in printed_table(table).rows:
                    for side in printed_table(table).columns:
                        path = out / folder / mode / f"{network}-{row.name.replace(' ', '-')}-{side}.safetensors"
                        if path.is_file():
                            found[row.name, int(side)] = Patch.load(path).pixels
                if found:
                    return found
    return {}


def patch_panels(out: Path) -> dict[int, tuple[Panel, ...]]:
    """Return the panels of Figures 4 to 6: for each target class one image with its largest patch."""
    from assay.evaluation.run import Run

    found: dict[int, tuple[Panel, ...]] = {}
    for figure, table in _TABLES.items():
        places = [
            directory_of(out, PROTOCOLS[table].studies[mode], stand_in)
            for stand_in in (False, True)
            for mode in (CORRECTED, AS_PUBLISHED)
        ]
        for place in places:
            try:
                shown = _panels(Run.open(place))
            except BadInput:
                continue
            if shown:
                found[figure] = shown
                break
    return found


def _panels(run: Run) -> tuple[Panel, ...]:
    best: dict[str, Panel] = {}
    largest: dict[str, float] = {}
    for cell, spec in run.cells.items():
        goal, side = spec["goal"], float(spec["eps"][0])
        pictures = sorted(run.gallery(cell), key=lambda one: (one.eps, one.status != "broken"))
        if pictures and side > largest.get(goal, 0.0):
            largest[goal] = side
            best[goal] = _panel(pictures[0], run, spec["model"], spec["data"], goal)
    return tuple(best.values())


def _panel(picture: Picture, run: Run, model: str, data: str, goal: str) -> Panel:
    from assay.data.labels import find_class
    from assay.models.imagenet import imagenet_classes

    # a file of weights knows no names
    names = class_names(run, model, data) or list(imagenet_classes())
    target, _ = find_class(goal.removeprefix("targeted "), len(imagenet_classes()), names)
    patched = picture.original.float() + picture.perturbation.float()
    shown = bars(picture.logits, picture.label, names, target)
    title = f"{name_of(names, picture.label)}, patch: {name_of(names, target)}"
    return Panel(title, {"": patched}, shown, model)
