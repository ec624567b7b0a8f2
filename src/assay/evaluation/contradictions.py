"""A proof that an attack breaks: one of the two is wrong, so the run stops, with both kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import save
from torch import Tensor

from assay.core.errors import AssayError
from assay.core.sweep import Curve
from assay.evaluation.analysis.brackets import BracketTable, Contradiction, in_words
from assay.evaluation.attack_unit import CleanLook, Unwatched, do
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.manifest import write_manifest
from assay.evaluation.run import Run
from assay.files import make_folder, write_atomically

FOLDER = "contradictions"
_KEPT = 10
"""So many contradictions are kept with their images: the first one is enough to look for what is wrong."""


class CertificateBroken(AssayError):
    """An attack broke what a certificate proves; `contradictions/` in the run directory holds both."""

    exit_code = 1


def check_brackets(run: Run, loader: Loader) -> None:
    """Raise `CertificateBroken` where a run's attacks broke what its certificates prove, and keep what shows it.

    Of statistical certificates as many may fail as their probability allows.
    """
    for table in run.brackets():
        found = table.certain_contradictions
        if found:
            kept = _keep(run, loader, table, found)
            told = f"a certificate and an attack contradict each other: {in_words(found)}"
            run.manifest["not_reportable_because"] = [*run.manifest["not_reportable_because"], told]
            run.manifest["reportable"] = False
            write_manifest(run.path, run.manifest)
            raise CertificateBroken(
                f"{table.model} on {table.data}, {table.threat}: {in_words(found)}. One of the two is wrong: the bound "
                "has a fault, or the model gives other answers to the same image (check it for randomness, for another "
                f"precision, and for answers that depend on the batch). {kept} holds the image, the adversarial image "
                "and the records of both."
            )


def _keep(run: Run, loader: Loader, table: BracketTable, found: Sequence[Contradiction]) -> Path:
    """Write the images and the records of the first contradictions; return the folder."""
    folder = run.path / FOLDER
    make_folder(folder)
    for number, one in enumerate(found[:_KEPT], 1):
        cell = Cell.of(run.cells[one.cell])
        images = _images(run, cell, one.sample, loader)
        attacked = run.store.read([one.cell])
        told = {
            **dataclasses.asdict(one),
            "model": table.model, "data": table.data, "threat": table.threat,
            "attack_records": _rows(attacked, one.sample),
            "certificate_records": _rows(run.certificates(), one.sample),
        }  # fmt: skip
        write_atomically(folder / f"{number}.json", (json.dumps(told, indent=1) + "\n").encode())
        if images:
            write_atomically(folder / f"{number}.safetensors", save(images))
    return folder


def _rows(records: pa.Table, sample: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = records.filter(pc.equal(records["sample_id"], sample)).to_pylist()
    return rows


def _images(run: Run, cell: Cell, sample: str, loader: Loader) -> dict[str, Tensor]:
    """Return the image and its adversarial images, made again from the seed of the cell."""
    experiment = Experiment.of(cell, loader).load()
    place = experiment.data.ids.index(sample)
    seen = _Seen(sample)
    unit = Unit(cell, place // cell.chunk)
    seen.ids = [experiment.data.ids[at] for at in cell.positions(unit.chunk)]
    do(unit, experiment, watch=seen)
    return seen.images_kept


class _Seen(Unwatched):
    """Keeps the images of one sample."""

    def __init__(self, sample: str) -> None:
        self.sample = sample
        self.ids: list[str] = []
        self.images_kept: dict[str, Tensor] = {}

    def attacked(self, asked: CleanLook, curve: Curve) -> None:
        """Keep the image, and at each budget what the attack made of it."""
        wanted = (asked.at == self.ids.index(self.sample)).nonzero().flatten()
        if len(wanted):
            row = int(wanted[0])
            found = [one.x[row] for one in curve.found]
            self.images_kept = {
                "image": asked.problem.x[row].cpu().contiguous(),
                "adversarial": torch.stack(found).cpu().contiguous(),
            }
