"""`assay schema`: the JSON Schema of a study, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.terminal import say, write

_NAME = "study.schema.json"


def schema(
    out: Annotated[Path | None, typer.Option("--out", help="A file to write, instead of standard output.")] = None,
) -> None:
    """Print the JSON Schema of a study file, for editors that complete and check YAML."""
    from assay.evaluate.study import study_schema

    text = json.dumps(study_schema(), indent=2)
    if out is None:
        write(text)
        return
    out = out / _NAME if out.is_dir() else out
    out.write_text(text + "\n", encoding="utf-8")
    say(f"Written: {out}. Begin a study with: # yaml-language-server: $schema={out.name}")
