"""`assay validate` and `assay schema`: is a study written right, and what may stand in one."""

# shape: a file for each group of commands

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from assay.console.flags import StudyFlags
from assay.console.output import say, write
from assay.console.places import Force, refuse_taken
from assay.console.study_from_flags import read_study
from assay.wording import plural

_NAME = "study.schema.json"


def schema(
    out: Annotated[Path | None, typer.Option("--out", help="A file to write, instead of standard output.")] = None,
    force: Force = False,
) -> None:
    """Print the JSON Schema of a study file, for editors that complete and check YAML."""
    from assay.evaluation.study.spec import study_schema
    from assay.files import write_atomically

    text = json.dumps(study_schema(), indent=2)
    if out is None:
        write(text)
        return
    out = out / _NAME if out.is_dir() else out
    content = f"{text}\n".encode()
    if not (out.is_file() and out.read_bytes() == content):
        refuse_taken(out, force=force)
        write_atomically(out, content)
    say(f"Written: {out}. Begin a study with: # yaml-language-server: $schema={out.name}")


def validate(flags: StudyFlags) -> None:
    """Check a study file, and say line by line what is wrong with it and how to put it right."""
    study = read_study(flags).study
    # a judge is asked about the images of each model
    models = [len(g.models) * (1 if g.judge is None else 2) for g in study.grids]
    cells = sum(n * len(g.data) * len(g.threats) * len(g.attacks) for n, g in zip(models, study.grids, strict=True))
    budgets = sum(
        n * len(g.data) * len(g.attacks) * sum(len(threat.eps) for threat in g.threats)
        for n, g in zip(models, study.grids, strict=True)
    )
    name = flags.study or f"The study {study.study}"
    write(f"{name} is a study: {plural(cells, 'cell')}, {plural(budgets, 'number')} to measure.")
