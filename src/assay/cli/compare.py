"""`assay compare`: what changed from one run to another, image by image."""

# shape: a file for each command

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from assay.console.output import out, say, write
from assay.console.places import Force, refuse_taken
from assay.core.errors import BadInput


def compare(
    before: Annotated[Path, typer.Argument(help="The earlier run: its directory, or a baseline file.")],
    now: Annotated[Path, typer.Argument(help="The later run: its directory, or a baseline file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    page: Annotated[
        Path | None, typer.Option(help="Write a page with classes and pictures.", show_default=False)
    ] = None,
    force: Force = False,
) -> None:
    """Compare two runs on the same images: differences with intervals, what is newly broken and newly saved."""
    from assay.evaluation.run import Run
    from assay.gate import comparing, pairing
    from assay.gate.baseline import open_side

    if as_json and markdown:
        raise BadInput("--json and --markdown are two ways to print; give one.")
    if page is not None:
        page = page / "compare.html" if page.is_dir() else page
        refuse_taken(page, force=force, flag="--page")
    found = pairing.compare(open_side(before), open_side(now))
    if as_json:
        write(json.dumps(comparing.plain(found), indent=2, allow_nan=False))
    elif markdown:
        write(comparing.markdown(found))
    elif page is None:
        comparing.terminal(found, out())
    if page is not None:
        from assay.gate.page import page as drawn

        say("Drawing the page …")
        runs = [Run.open(path) if path.expanduser().is_dir() else None for path in (before, now)]
        path = drawn(found, runs, page)
        say(f"Written: {path}") if as_json or markdown else write(str(path))
