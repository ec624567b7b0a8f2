"""`assay paper report`: one page with every table and figure of the paper, or its figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.console.output import say, write
from assay.console.places import Figure, Force, refuse_figures, refuse_taken

PAGE = "paper.html"
OUT = Path("runs/sen2023")


def report(
    out: Annotated[Path, typer.Option("--out", help="The directory of the paper's runs.")] = OUT,
    page: Annotated[
        Path | None, typer.Option("--page", help=f"Where to write the page (OUT/{PAGE}).", show_default=False)
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", help="Write the figures as files into a directory instead.", show_default=False),
    ] = None,
    form: Annotated[Figure, typer.Option("--format", help="What the figures are written as.")] = Figure.SVG,
    force: Force = False,
) -> None:
    """Write one page: each table and figure as printed, as published and corrected, and where they differ."""
    from assay.paper import figures as drawn
    from assay.paper.contents import contents
    from assay.paper.inputs import temperatures
    from assay.paper.measured import views
    from assay.paper.page import page as paper_page
    from assay.paper.patched import kept_patches, patch_panels

    target = page or out / PAGE
    target = target / PAGE if target.is_dir() else target
    if figures is not None:
        refuse_figures(figures, form.value, force, "--figures")
    elif target.absolute() != (out / PAGE).absolute():
        refuse_taken(target, force=force, flag="--page")
    say("Reading the runs …")
    found = contents(
        out, views=views(out), temperatures=temperatures(), patches=kept_patches(out),
        panels=patch_panels(out),
    )  # fmt: skip
    if figures is not None:
        for path in drawn.figures(found, figures, form.value):
            write(str(path))
        return
    say("Drawing the page …")
    write(str(paper_page(found, target)))
