"""`assay ls`, `assay show` and `assay report`: the runs of a folder, one run, its page."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.console.output import out, say, write
from assay.console.places import Figure, Force, refuse_figures, refuse_taken
from assay.console.sessions import tell_gaps
from assay.console.shares import told, who_works
from assay.console.study_from_flags import LOCK
from assay.core.errors import BadInput
from assay.files import url_of

if TYPE_CHECKING:
    from assay.evaluation.run import Run


def ls(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs: their state, who works on them, what they measured, and whether their numbers may be reported."""
    directories = _directories(folder)
    found = [_facts(path) for path in directories]
    for facts, stand in zip(found, who_works(directories).values(), strict=True) if found else ():
        # shares that ended long ago are of interest while others do not
        unfinished = facts["status"] != "success"
        facts["working"] = [one.plain() for one in stand if one.at_work or unfinished]
        facts["told"] = told([one for one in stand if one.at_work or (unfinished and one.state != "done")])
    if as_json:
        write(json.dumps([{k: v for k, v in one.items() if k != "told"} for one in found], indent=2))
    elif found:
        _table(found)
    else:
        say(
            f"No runs in {folder}. Begin one with: assay run --model zoo:mnist-cnn --data mnist/test "
            "--attack fgsm --eps 0.1 --limit 100"
        )


def _directories(folder: Path) -> list[Path]:
    if not folder.exists() and (url := url_of(folder)):
        raise BadInput(
            f"{url} lies in a store; expected a folder of runs on this machine. One run there: assay show {url}/RUN"
        )
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
    working = any(one["told"] for one in found)
    for title in ("status", "started", "cells", "models", "data", *(["work"] if working else []), ""):
        table.add_column(title, overflow="fold")
    for one in found:
        started = str(one.get("started") or "")[:16].replace("T", " ")
        texts = [one["directory"], one["status"], started, str(one.get("cells", ""))]
        texts += [", ".join(one.get(name, [])) for name in ("models", "data")]
        texts += ["\n".join(one["told"])] if working else []
        texts.append(one.get("error", "") if "error" in one else "" if one["reportable"] else "not reportable")
        table.add_row(*map(Text, texts))
    out().print(table)


class Format(enum.StrEnum):
    """What a table can be written as."""

    MD = "md"
    LATEX = "latex"
    CSV = "csv"


def show(
    directory: Annotated[str, typer.Argument(help="A run directory, such as runs/demo, or one in a store: s3://….")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one entry per cell and budget.")] = False,
    over: Annotated[
        str | None,
        typer.Option(help="Accuracy against queries, steps, forwards or backwards instead.", show_default=False),
    ] = None,
    form: Annotated[Format | None, typer.Option("--format", help="Markdown, LaTeX or CSV.", show_default=False)] = None,
) -> None:
    """Print the numbers of a run; accuracies in JSON and CSV are fractions."""
    from assay import report
    from assay.evaluation.run import Run
    from assay.report import effort
    from assay.report.numbers import as_plain

    if as_json and form:
        raise BadInput(f"--json and --format {form.value} are two ways to print; give one.")
    if over and form:
        raise BadInput(f"--over and --format {form.value} do not go together; use --over with --json, or alone.")
    run = Run.open(directory)
    tell_gaps(run)
    if over and as_json:
        write(json.dumps({"study": run.study, "curves": effort.plain(run, over)}, indent=2, allow_nan=False))
    elif over:
        effort.terminal(run, over, out())
    elif as_json:
        write(json.dumps(as_plain(run), indent=2, allow_nan=False))
    elif form is Format.MD:
        write(report.markdown(run))
    elif form is Format.LATEX:
        write(report.latex(run))
    elif form is Format.CSV:
        write(report.csv(run))
    else:
        report.terminal(run, out())


PAGE = "report.html"


def report(
    directory: Annotated[str, typer.Argument(help="A run directory, such as runs/demo, or one in a store: s3://….")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help=f"Where to write (DIRECTORY/{PAGE}, or DIRECTORY/figures).", show_default=False),
    ] = None,
    form: Annotated[
        Figure | None, typer.Option("--format", help="Write the charts as files instead of a page.", show_default=False)
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Of images of many bands: those shown as red, green and blue, from 0: 5,3,1.", show_default=False
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write the page of a run: one file with the numbers, charts, pictures and provenance."""
    from assay import report as reports
    from assay.evaluation.run import Run

    run = Run.open(directory)
    tell_gaps(run)
    # beside a run that lies in a store nothing is written: its page goes here
    home = Path() if run.far else Path(directory)
    if form is not None:
        if out is not None or run.far:
            refuse_figures(out or home / "figures", form.value, force)
        for path in reports.figures(run, out or home / "figures", form.value):
            write(str(path))
        return
    target = out or home / PAGE
    target = target / PAGE if target.is_dir() else target
    # the page inside the run directory is drawn anew each time
    if run.far or target.absolute() != (home / PAGE).absolute():
        refuse_taken(target, force=force)
    say("Drawing the page …")
    write(str(reports.page(run, target, _bands(bands))))


def _bands(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(f"--bands {text}: expected numbers of channels from 0, such as 5,3,1.") from None
