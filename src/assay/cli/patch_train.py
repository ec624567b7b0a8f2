"""`assay patch train`: a patch from a model and images; the same command goes on after Ctrl-C."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.exits import Exit
from assay.cli.flags import AllowPickle
from assay.cli.numbers import duration
from assay.cli.patch_evaluate import print_measured
from assay.cli.patch_flags import ImageFlags, SeenFlags, flag, place
from assay.cli.progress import Pace, Watch, progress
from assay.cli.terminal import DisplayOption, chosen, say, spoken_command, write

if TYPE_CHECKING:
    from assay.models import Classifier
    from assay.patches import PatchProgress, Recipe, TrainedPatch

_PATCH, _HOW = "The patch", "How it is trained (the defaults are those of Sen et al. 2023)"
_PLACEMENTS = 50


@dataclasses.dataclass(frozen=True)
class PatchFlags:
    """What the patch is."""

    target: Annotated[str | None, flag(_PATCH, "The class to reach: name, number or synset (any wrong class).")] = None
    size: Annotated[int, flag(_PATCH, "The longer side in pixels (64).")] = 64
    shape: Annotated[str, flag(_PATCH, "square, circle, or a PNG whose alpha is the mask (square).")] = "square"
    start: Annotated[Path | None, flag(_PATCH, "A photograph to start from; with --epochs 0 it is the patch.")] = None
    at: Annotated[str | None, flag(_PATCH, "One fixed place X,Y of the top left corner (random places).")] = None


@dataclasses.dataclass(frozen=True)
class FitFlags:
    """How it is optimised."""

    epochs: Annotated[int, flag(_HOW, "Passes over the images (5).")] = 5
    batch: Annotated[int, flag(_HOW, "Images per step; a smaller last batch is left out (32).")] = 32
    optimizer: Annotated[str, flag(_HOW, "sgd or adam (sgd).")] = "sgd"
    rate: Annotated[float, flag(_HOW, "The step's length (0.1).")] = 0.1
    momentum: Annotated[float, flag(_HOW, "The momentum of sgd (0.8).")] = 0.8
    published: Annotated[
        bool, flag(_HOW, "Places of the public notebook: the last two rows and columns are never used.", "--published")
    ] = False
    seed: Annotated[int, flag(_HOW, "The seed of order and places (0).")] = 0


def train(
    ctx: typer.Context,
    model: Annotated[list[str], typer.Option(help="A model; several are attacked at once (repeatable).")],
    patch: PatchFlags,
    fit: FitFlags,
    seen: SeenFlags,
    images: ImageFlags,
    out: Annotated[Path | None, typer.Option(help="The file (runs/patches/MODEL-TARGET-SIZE.safetensors).")] = None,
    device: Annotated[str, typer.Option(help="Where models run.")] = "cpu",
    display: DisplayOption = None,
    allow_pickle: AllowPickle = False,
) -> None:  # shape: one parameter for each group of flags
    """Train a patch; the same command goes on after Ctrl-C.

    With --held-out N the finished patch is measured on the N images it was not trained on.
    """
    from assay.models import load_model
    from assay.patches import train_patch
    from assay.patches.pictures import write_png

    models = [load_model(one, allow_pickle=allow_pickle, device=device) for one in model]
    data = images.load(models[0], "rest", fit.seed)
    recipe = _recipe(models[0], patch, fit, seen)
    path = out or _path(models, patch)
    command = spoken_command(ctx.obj or ())
    try:
        with progress(f"Training on {len(data)} images", chosen(display)) as watch:
            done = train_patch(models, data, recipe, path.with_suffix(".training"), command, _shown(watch))
    except KeyboardInterrupt:
        say(f"Stopped. The finished epochs are kept; the same command continues:\n  {command}")
        raise typer.Exit(Exit.STOPPED) from None
    done.patch.save(path)
    write_png(done.patch, path.with_suffix(".png"))
    _tell(done)
    if images.held_out:
        _measure(done, models, images, patch, fit, seen)
    write(str(path))
    held = f" --held-out {images.held_out} --seed {fit.seed}" if images.held_out else ""
    say(f"Picture   {path.with_suffix('.png')}")
    say(f"Next      assay patch evaluate {path} --model {model[0]} --data {images.data}{held}")


def _recipe(model: Classifier, patch: PatchFlags, fit: FitFlags, seen: SeenFlags) -> Recipe:
    from assay.data.labels import find_class
    from assay.patches import Recipe
    from assay.patches.pictures import mask_of, photograph

    target = None
    if patch.target is not None:
        # without names any number is taken here, and the model says later whether it has that class
        count = len(model.classes) if model.classes else 1 << 31
        target, notes = find_class(patch.target, count, model.classes, model.synsets)
        for note in notes:
            say(f"Note: {note}", style="yellow")
    mask = mask_of(patch.shape, patch.size)
    channels = model.input_shape[0] if model.input_shape else 3
    return Recipe(
        mask=mask,
        target=target,
        channels=channels,
        start=photograph(patch.start, mask, channels) if patch.start else None,
        epochs=fit.epochs,
        batch=fit.batch,
        optimizer=fit.optimizer,
        rate=fit.rate,
        momentum=fit.momentum,
        published=fit.published,
        at=place(patch.at),
        transforms=seen.transforms(),
        seed=fit.seed,
    )


def _path(models: list[Classifier], patch: PatchFlags) -> Path:
    names = "+".join(model.spec.rpartition(":")[2] for model in models)
    name = re.sub(r"[^\w.+-]+", "-", f"{names}-{patch.target or 'untargeted'}-{patch.size}")
    return Path("runs/patches") / f"{name}.safetensors"


def _shown(watch: Watch) -> Callable[[PatchProgress], None]:
    pace = Pace()

    def show(now: PatchProgress) -> None:
        share = ((now.epoch - 1) * now.batches + now.batch) / (now.epochs * now.batches)
        note = f"epoch {now.epoch} of {now.epochs}, loss {now.loss:.3f}, success {100 * now.success:.0f} %"
        watch.update(share, note, pace.left(share))

    return show


def _tell(done: TrainedPatch) -> None:
    if done.log:
        last = done.log[-1]
        say(f"Last epoch: loss {last['loss']:.3f}, success {100 * last['success']:.1f} % of the images trained on.")
    seconds = sum(row["seconds"] for row in done.log)
    say(f"Cost: {done.passes:,} images forward and backward, {duration(seconds)}.")


def _measure(
    done: TrainedPatch, models: list[Classifier], images: ImageFlags, patch: PatchFlags, fit: FitFlags, seen: SeenFlags
) -> None:
    from assay.patches import measure
    from assay.patches.evaluate import Where

    where = Where(at=place(patch.at)) if patch.at else Where(_PLACEMENTS)
    rows = [
        measure(done.patch, model, images.load(model, "held-out", fit.seed), where, seen.transforms(), fit.seed)
        for model in models
    ]
    print_measured(rows, f"{images.held_out} images held out")
