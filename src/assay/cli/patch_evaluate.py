"""`assay patch evaluate`: what a patch does to a model, for the class that it is for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.patch_flags import ImageFlags, SeenFlags, flag, place
from assay.console.flags import AllowPickle, Batch, Device
from assay.console.output import DisplayOption, chosen, out, say, stoppable, write
from assay.core.errors import BadInput
from assay.display import progress
from assay.meter import Meter

if TYPE_CHECKING:
    from torch import Tensor

    from assay.data import Data
    from assay.models import Classifier
    from assay.patches import Measured, Patch


def find_target(written: str | None, model: Classifier, data: Data) -> tuple[int | None, str]:
    """Return the class that `written` names, and what it is called; None and "" for no class.

    A name that is also a part of others is told on the terminal. Raises `BadInput` for no class of the model.
    """
    from assay.data.labels import find_class

    if written is None:
        return None, ""
    names, count = model.classes or data.classes, count_classes(model, data)
    if names is None and not written.isdecimal():
        raise BadInput(
            f"--target {written}: neither {model.spec} nor {data.source} says what classes are called. "
            f"Give the number, 0 to {count - 1}."
        )
    target, notes = find_class(written, count, names, model.synsets)
    for note in notes:
        say(f"Note: {note}", style="yellow")
    return target, names[target] if names and target < len(names) else f"class {target}"


def check_target(patch: Patch, model: Classifier, data: Data) -> None:
    """Raise `BadInput` for a patch whose target is no class of the model; tell where the model calls it otherwise."""
    if patch.target is None:
        return
    count = count_classes(model, data)
    if patch.target >= count:
        raise BadInput(
            f"The patch {patch.name} is for class {patch.target}, and {model.spec} has {count} classes, 0 to "
            f"{count - 1}. Use a model of the same classes."
        )
    called = model.classes[patch.target] if model.classes else patch.target_name
    if called != patch.target_name and not patch.target_name.startswith("class "):
        say(
            f"Note: class {patch.target} is {patch.target_name!r} for the patch and {called!r} for {model.spec}.",
            style="yellow",
        )


def check_together(models: Sequence[Classifier], data: Data) -> None:
    """Refuse models that cannot be attacked at once on these data; see `Victims` and `check_answers`."""
    from assay.patches.victims import Victims

    Victims(tuple(models), data.input_shape)
    for model in models:
        check_answers(model, data, climbed=True)


def check_answers(model: Classifier, data: Data, *, climbed: bool) -> None:
    """Ask the model about a first image, and refuse what would make every number about it wrong.

    Raises `BadInput` for labels that are no classes of its, and, where its answers are to be `climbed`, for
    probabilities; `ModelError` for scores that are no numbers.
    """
    from assay.evaluation.attack_unit import check_numbers, check_scores
    from assay.evaluation.one_score import check_one_score

    name, x = _first_image(model, data)
    with model.held():
        oracle = model.oracle()
        logits = oracle.answers(x)
        check_numbers(logits, [name], model.spec)
        if climbed:
            check_scores(logits, model.outputs, model.access)
            check_one_score(oracle, x, logits, model.outputs)
    classes = logits.shape[1]
    wrong = next((at for at, label in enumerate(data.labels) if not 0 <= label < classes), None)
    if wrong is not None:
        raise BadInput(
            f"The sample {data.ids[wrong]!r} has label {data.labels[wrong]}, but {model.spec} has {classes} classes, "
            f"0 to {classes - 1}. Choose data whose labels are the model's classes."
        )


def count_classes(model: Classifier, data: Data) -> int:
    """Return how many classes the model has: as many as it names, or as it answers with about a first image."""
    if model.classes:
        return len(model.classes)
    _, x = _first_image(model, data)
    with model.held():
        return model.oracle().answers(x).shape[1]


def _first_image(model: Classifier, data: Data) -> tuple[str, Tensor]:
    """Return the id of the first readable image, and the image `[1, C, H, W]` where the model computes."""
    from assay.data import Sample

    sample = next((one for at in range(len(data)) for one in data.load([at]) if isinstance(one, Sample)), None)
    if sample is None:
        raise BadInput(f"{data.source} has no image that can be read. Use other data.")
    return sample.id, sample.image[None].to(model.device)


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
    with stoppable(), progress("Measuring", chosen(display)) as watch:
        pace, total = Meter(), len(loaded) * len(model)
        for name in model:
            victim = load_model(name, allow_pickle=allow_pickle, device=device)
            data = images.load(victim, "held-out", seed)
            check_answers(victim, data, climbed=False)
            for called, patch in loaded.items():
                check_target(patch, victim, data)
                found = measure(patch, victim, data, where, seen.transforms(), seed, batch)
                rows.append(dataclasses.replace(found, patch=called))
                watch.update(len(rows) / total, f"{called} on {name}", pace.reach(len(rows) / total))
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
