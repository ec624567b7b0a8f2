"""`assay report`: the page of a run, or its charts as files."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.places import Force, refuse_figures, refuse_taken
from assay.cli.sessions import tell_gaps
from assay.cli.terminal import say, write

PAGE = "report.html"


class Figure(enum.StrEnum):
    """What charts can be written as."""

    SVG = "svg"
    PNG = "png"
    PDF = "pdf"


def report(
    directory: Annotated[Path, typer.Argument(help="A run directory, such as runs/demo.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help=f"Where to write (DIRECTORY/{PAGE}, or DIRECTORY/figures).", show_default=False),
    ] = None,
    form: Annotated[
        Figure | None, typer.Option("--format", help="Write the charts as files instead of a page.", show_default=False)
    ] = None,
    force: Force = False,
) -> None:
    """Write the page of a run: one file with the numbers, charts, pictures and provenance."""
    from assay import report as reports
    from assay.evaluation.run import Run

    run = Run.open(directory)
    tell_gaps(run)
    if form is not None:
        if out is not None:
            refuse_figures(out, form.value, force)
        for path in reports.figures(run, out or directory / "figures", form.value):
            write(str(path))
        return
    target = out or directory / PAGE
    target = target / PAGE if target.is_dir() else target
    # the page inside the run directory is drawn anew each time
    if target.absolute() != (directory / PAGE).absolute():
        refuse_taken(target, force=force)
    say("Drawing the page …")
    write(str(reports.page(run, target)))
