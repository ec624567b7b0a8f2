"""Weights & Biases: an offline run in a folder; nothing is sent, `wandb sync` is the user's."""

# shape: a file for each export

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.exports.extras import require
from assay.exports.facts import Facts
from assay.files import make_folder

PROJECT = "assay"
TABLE = "results"


def write_wandb(facts: Facts, target: Path) -> list[str]:
    """Write an offline run into the folder `target`: a step per row, and all rows as a table.

    Raises `BadInput` where wandb is not installed.
    """
    require("wandb", "wandb", "wandb")
    import wandb

    make_folder(target)
    settings = wandb.Settings(
        mode="offline", console="off", silent=True, x_disable_stats=True, x_disable_meta=True, disable_git=True,
        disable_code=True, save_code=False, x_save_requirements=False,
    )  # fmt: skip
    about: dict[str, Any] = {
        "assay": {**{name: facts.shown[name] for name in ("study", "status", "reportable")}, **facts.manifest}
    }
    run = wandb.init(
        dir=str(target), project=PROJECT, name=" ".join(facts.run.study.split()), config=about, settings=settings,
        reinit="create_new",
    )  # fmt: skip
    try:
        for row in facts.rows:
            run.log(row)
        names = list(facts.rows[0]) if facts.rows else []
        run.log({TABLE: wandb.Table(columns=names, data=[[row[name] for name in names] for row in facts.rows])})
        for name in ("study", "status", "reportable"):
            run.summary[name] = facts.shown[name]
    finally:
        run.finish()
    # the folder that holds run-ID.wandb; wandb's own `dir` is the folder of files inside
    return [str(Path(run.dir).parent)]
