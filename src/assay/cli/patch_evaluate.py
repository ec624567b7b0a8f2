"""`assay patch evaluate`: what patches do to models: success, its interval, the worst place, transfer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.console import DisplayOption, chosen, out, say, write
from assay.cli.exit_codes import Exit
from assay.cli.flags import AllowPickle, Batch, Device
from assay.cli.patch_flags import ImageFlags, SeenFlags, flag, place
from assay.cli.patch_target import check_answers, check_target
from assay.cli.progress import Pace, progress
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.patches import Measured, Patch

_WHERE = "Where it lies"


def evaluate(
    patches: Annotated[list[Path], typer.Argument(help="Patches: files of `assay patch train`.")],
    model: Annotated[list[str], typer.Option(help="A model (repeatable: how patches transfer).")],
    images: ImageFlags,
    placements: Annotated[int, flag(_WHERE, "Random placements per image (50).")] = 50,
    grid: Annotated[int | None, flag(_WHERE, "Instead: every place of a grid, so many pixels apart.")] = None,
    at: Annotated[str | None, flag(_WHERE, "Instead: one place X,Y of the top left corner.")] = None,
    *,
    seen: SeenFlags,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also random pixels and mid-grey, in the form of each patch.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The seed of places, and of the held-out part.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Device = "cpu",
    batch: Batch = None,
    display: DisplayOption = None,
    allow_pickle: AllowPickle = False,
) -> None:  # shape: one parameter for each flag
    """Measure patches on images: one forward pass per image and placement.

    Success is the share of (image, placement) pairs that end in the patch's class; images of that class are left out.
    """
    from assay.models import load_model
    from assay.patches import measure
    from assay.patches.evaluate import Where

    if grid is not None and at is not None:
        raise BadInput("--grid and --at are two ways to place; give one.")
    where = Where(placements, grid, place(at))
    named = _named(patches)
    loaded = _with_baselines(named, seed) if baselines else named
    rows: list[Measured] = []
    try:
        with progress("Measuring", chosen(display)) as watch:
            pace, total = Pace(), len(loaded) * len(model)
            for name in model:
                victim = load_model(name, allow_pickle=allow_pickle, device=device)
                data = images.load(victim, "held-out", seed)
                check_answers(victim, data, climbed=False)
                for called, patch in loaded.items():
                    check_target(patch, victim, data)
                    found = measure(patch, victim, data, where, seen.transforms(), seed, batch)
                    rows.append(dataclasses.replace(found, patch=called))
                    watch.update(len(rows) / total, f"{called} on {name}", pace.left(len(rows) / total))
    except KeyboardInterrupt:
        say("Stopped; nothing was kept.")
        raise typer.Exit(Exit.STOPPED) from None
    if as_json:
        write(json.dumps([as_plain(row) for row in rows], indent=2))
    else:
        print_measured(rows, f"{images.data}, {len(rows[0].ids)} images")


def _named(paths: Sequence[Path]) -> dict[str, Patch]:
    """Return the patches by the names of their files, or by whole paths where two names are the same."""
    from assay.patches import Patch

    each = list(dict.fromkeys(paths))
    alike = len({path.stem for path in each}) < len(each)
    return {str(path) if alike else path.stem: Patch.load(path) for path in each}


def _with_baselines(named: dict[str, Patch], seed: int) -> dict[str, Patch]:
    """Return the patches, and what they must beat: random pixels, and mid-grey, in the same form."""
    import torch

    from assay.core.draws import Draws

    found = dict(named)
    for name, patch in named.items():
        noise = Draws.of(["baseline"], seed).uniform("pixels", *patch.pixels.shape)[0]
        found[f"{name}: random pixels"] = patch.with_pixels(noise)
        found[f"{name}: mid-grey"] = patch.with_pixels(torch.full_like(patch.pixels, 0.5))
    return found


def as_plain(row: Measured) -> dict[str, Any]:
    """Return what was measured as plain values; shares are fractions."""
    low, high = row.interval
    low5, high5 = row.interval_top5
    return {
        "patch": row.patch, "model": row.model, "data": row.data, "images": len(row.ids),
        "placements": row.hits.shape[1], "success": row.success, "low": low, "high": high,
        "success_top5": row.success_top5, "low_top5": low5, "high_top5": high5, "worst_place": row.worst_place,
        "forwards": row.passes, "excluded": row.excluded, "errors": row.errors,
    }  # fmt: skip


def print_measured(rows: Sequence[Measured], title: str) -> None:
    """Print what was measured as a table, and a matrix of success where patches meet several models."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("patch")
    table.add_column("model")
    for name in ("placements", "success", "among five", "worst place"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            Text(row.patch), Text(row.model), str(row.hits.shape[1]), _share(row.success, row.interval),
            _share(row.success_top5, row.interval_top5), f"{100 * row.worst_place:.0f} %",
        )  # fmt: skip
    console = out()
    console.print(table)
    for told in _left_out(rows):
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    console.print(
        "success: share of (image, placement) pairs; the interval (95 %) counts pictures, not placements, as "
        "independent. among five: pairs with the class among the five likeliest. worst place: images that some "
        "placement turns.",
        style="dim",
        soft_wrap=True,
    )
    if len({row.patch for row in rows}) > 1 and len({row.model for row in rows}) > 1:
        console.print(_matrix(rows))


def _left_out(rows: Sequence[Measured]) -> list[str]:
    told = {}
    for row in rows:
        if row.excluded:
            told[row.patch, "excluded"] = f"{row.patch}: {row.excluded} images of its class are left out."
        if row.errors:
            what = "could not be read, or have NaN or infinite scores"
            told[row.patch, row.model] = f"{row.patch} on {row.model}: {row.errors} images {what}: left out."
    return list(told.values())


def _matrix(rows: Sequence[Measured]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    models = list(dict.fromkeys(row.model for row in rows))
    table = Table("transfer", title="success by model", title_justify="left", box=box.SIMPLE_HEAD)
    for model in models:
        table.add_column(Text(model), justify="right")
    for name in dict.fromkeys(row.patch for row in rows):
        found = {row.model: row for row in rows if row.patch == name}
        table.add_row(
            Text(name), *(f"{100 * found[model].success:.0f} %" if model in found else "" for model in models)
        )
    return table


def _share(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * value:.1f} % [{100 * low:.0f}-{100 * high:.0f}]"
