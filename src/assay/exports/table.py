"""The exports, in one visible table: name -> what writes it, where to inside the run directory, and what it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import BadInput, did_you_mean
from assay.exports.croissant import write_croissant
from assay.exports.evidence import write_evidence
from assay.exports.facts import Facts
from assay.exports.mlflow_runs import MLflowTracker, write_mlflow
from assay.exports.model_card import write_model_card
from assay.exports.tables import write_csv, write_json
from assay.exports.wandb_file import write_wandb

if TYPE_CHECKING:
    from assay.evaluation.run import Run

FOLDER = "exports"


@dataclasses.dataclass(frozen=True)
class Export:
    """What `write` makes of a run: the file or folder `place` in `exports` of the run directory; None is elsewhere."""

    write: Callable[[Facts, Path], list[str]]
    place: str | None
    about: str


EXPORTS = {
    "json": Export(write_json, "results.json", "what `assay show --json` prints, with what it rests on"),
    "csv": Export(write_csv, "results.csv", "a row per cell and budget"),
    "model-card": Export(write_model_card, "model-card", "README.md with a model-index, for the Hugging Face hub"),
    "croissant": Export(write_croissant, "croissant", "the records in Parquet, described in Croissant 1.0"),
    "evidence": Export(write_evidence, "evidence", "a report for assessors, Markdown and JSON"),
    "mlflow": Export(write_mlflow, None, "MLflow runs, one per cell and budget (extra mlflow)"),
    "wandb": Export(write_wandb, "wandb", "an offline run of Weights & Biases (extra wandb)"),
}

TRACKERS = {"mlflow": MLflowTracker}


def export_run(run: Run, to: str, out: Path | None = None, *, force: bool = False) -> list[str]:
    """Write a run's numbers for another program, and return what was written or where it is.

    `to` is one of `EXPORTS`. Without `out` it lies in `exports` of the run directory, drawn anew each time, and of a
    run in a store in `exports` here; a place that is there already is refused unless `force`.

    Raises `BadInput` for unknown names, taken places, and a library that is not installed.
    """
    export = EXPORTS.get(to)
    if export is None:
        raise BadInput(f"Unknown export {to!r}.{did_you_mean(to, EXPORTS)} There are: {', '.join(EXPORTS)}.")
    if export.place is None:
        if out is not None:
            raise BadInput(
                f"{to} writes into no file, and {out} was given; its own settings say where (MLFLOW_TRACKING_URI)."
            )
        return export.write(Facts(run), run.path)
    # a run in a store is read alone: what is made of it lies here
    home = Path() if run.far else run.path
    target = out or home / FOLDER / export.place
    if target.is_dir() and Path(export.place).suffix:
        target /= export.place
    inside = not run.far and (run.path / FOLDER).absolute() in target.absolute().parents
    if target.exists() and not (force or inside) and not (target.is_dir() and not any(target.iterdir())):
        raise BadInput(
            f"{target} is there already. Name another --out, or replace it with --force (in Python: force=True)."
        )
    return export.write(Facts(run), target)
