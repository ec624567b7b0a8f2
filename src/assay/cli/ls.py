"""`assay ls`: the runs of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.flagged_study import LOCK
from assay.cli.terminal import out, say, write
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.evaluation.run import Run


def ls(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs: their state, what they measured, and whether their numbers may be reported."""
    found = [_facts(path) for path in _directories(folder)]
    if as_json:
        write(json.dumps(found, indent=2))
    elif found:
        _table(found)
    else:
        say(
            f"No runs in {folder}. Begin one with: assay run --model zoo:mnist-cnn --data mnist/test "
            "--attack fgsm --eps 0.1 --limit 100"
        )


def _directories(folder: Path) -> list[Path]:
    if not folder.exists() and folder != Path("runs"):
        raise BadInput(f"There is no folder {folder}. Give the folder that holds your runs, such as runs.")
    if folder.is_file():
        raise BadInput(f"{folder} is a file. Give the folder that holds your runs, such as runs.")
    candidates = [folder, *sorted(folder.glob("*"))]
    return [path for path in candidates if (path / LOCK).is_file() or (path / "manifest.json").is_file()]


def _facts(path: Path) -> dict[str, Any]:
    from assay.evaluation.run import Run

    try:
        run = Run.open(path)
        return {"directory": str(path), **_summary(run)}
    except BadInput as error:
        return {"directory": str(path), "status": "unreadable", "error": str(error)}


def _summary(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    return {
        "study": run.study,
        "status": run.status,
        "reportable": bool(manifest.get("reportable")),
        "started": manifest.get("started"),
        "models": list(manifest.get("models", {})),
        "data": list(manifest.get("data", {})),
        "cells": len(manifest.get("cells", {})),
    }


def _table(found: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("directory", overflow="fold", min_width=max(len(one["directory"]) for one in found))
    for title in ("status", "started", "cells", "models", "data", ""):
        table.add_column(title, overflow="fold")
    for one in found:
        started = str(one.get("started") or "")[:16].replace("T", " ")
        texts = [one["directory"], one["status"], started, str(one.get("cells", ""))]
        texts += [", ".join(one.get(name, [])) for name in ("models", "data")]
        texts.append(one.get("error", "") if "error" in one else "" if one["reportable"] else "not reportable")
        table.add_row(*map(Text, texts))
    out().print(table)
