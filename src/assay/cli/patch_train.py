"""`assay patch train`: a patch from a model and images; the same command goes on after Ctrl-C."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.patch_evaluate import check_together, find_target, print_measured
from assay.cli.patch_flags import FitFlags, ImageFlags, PatchFlags, SeenFlags, place
from assay.console.flags import AllowPickle, Device
from assay.console.output import DisplayOption, chosen, say, spoken_command, stoppable, write
from assay.console.places import Force, refuse_taken
from assay.core.errors import BadInput
from assay.display import Watch, progress
from assay.meter import Meter
from assay.wording import plural, rough_duration

if TYPE_CHECKING:
    from assay.data import Data
    from assay.models import Classifier
    from assay.patches import PatchProgress, Recipe, TrainedPatch

_PLACEMENTS = 50
_FEW_STEPS, _ENOUGH_STEPS = 100, 400


def train(
    ctx: typer.Context,
    model: Annotated[list[str], typer.Option(help="A model; several are attacked at once (repeatable).")],
    patch: PatchFlags,
    images: ImageFlags,
    fit: FitFlags,
    seen: SeenFlags,
    out: Annotated[Path | None, typer.Option(help="The .safetensors file (a name of its own in runs/patches).")] = None,
    device: Device = "cpu",
    force: Force = False,
    display: DisplayOption = None,
    allow_pickle: AllowPickle = False,
) -> None:  # shape: one parameter for each group of flags
    """Train a patch; the same command goes on after Ctrl-C.

    Writes .safetensors and PNG; with --held-out N it is measured on the N images that it was not trained on.
    """
    from assay.models import load_model
    from assay.patches import train_patch
    from assay.patches.pictures import write_png

    if out is not None and out.suffix != ".safetensors":
        raise BadInput(f"--out {out}: a patch is a .safetensors file; its PNG lies beside it. Name it so.")
    if out is not None:
        _refuse_taken(out, force)
    models = [load_model(one, allow_pickle=allow_pickle, device=device) for one in model]
    data = images.load(models[0], "rest", fit.seed)
    check_together(models, data)
    target, name = find_target(patch.target, models[0], data)
    recipe = _recipe(patch, fit, seen, target, data)
    _warn_of_few(recipe, len(data))
    path = out or _path(models, patch)
    _refuse_taken(path, force)
    command = spoken_command(ctx.obj or ())
    try:
        with (
            stoppable(command, "The finished epochs are kept"),
            progress(f"Training on {len(data)} images", chosen(display)) as watch,
        ):
            done = train_patch(models, data, recipe, path.with_suffix(".training"), command, _shown(watch))
    except BadInput as error:
        raise BadInput(str(error).replace("Name another folder", "Name another patch with --out")) from error
    done = dataclasses.replace(done, patch=dataclasses.replace(done.patch, target_name=name))
    done.patch.save(path)
    write_png(done.patch, path.with_suffix(".png"))
    _tell(done)
    if images.held_out:
        _measure(done, models, images, patch, fit, seen)
    write(str(path))
    say(f"Picture   {path.with_suffix('.png')}")
    again = ["patch", "evaluate", str(path), "--model", model[0], *images.spoken(fit.seed)]
    say(f"Next      {spoken_command(again)}")


def _refuse_taken(path: Path, force: bool) -> None:
    # beside a checkpoint lies the patch of that training, and the checkpoint refuses any other
    if not (path.with_suffix(".training") / "checkpoint.pt").exists():
        refuse_taken(path, path.with_suffix(".png"), force=force)


def _recipe(patch: PatchFlags, fit: FitFlags, seen: SeenFlags, target: int | None, data: Data) -> Recipe:
    from assay.patches import Recipe
    from assay.patches.pictures import mask_of, photograph

    mask = mask_of(patch.shape, patch.size)
    channels = data.input_shape[0] if data.input_shape else 3
    return Recipe(
        mask=mask,
        target=target,
        channels=channels,
        start=photograph(patch.start, mask, channels) if patch.start else None,
        epochs=fit.epochs,
        batch=fit.batch_of(len(data)),
        optimizer=fit.optimizer,
        rate=fit.rate,
        momentum=fit.momentum,
        published=fit.published,
        at=place(patch.at),
        transforms=seen.transforms(),
        seed=fit.seed,
    )


def _warn_of_few(recipe: Recipe, images: int) -> None:
    steps = images // recipe.batch
    if 0 < recipe.epochs * steps < _FEW_STEPS:
        enough = math.ceil(_ENOUGH_STEPS / steps)
        say(
            f"Note: {plural(recipe.epochs, 'epoch')} of {plural(steps, 'step')} are few. For a stronger patch: "
            f"--epochs {enough} --optimizer adam",
            style="yellow",
        )


def _path(models: list[Classifier], patch: PatchFlags) -> Path:
    names = "+".join(Path(re.split("[?@]", model.spec)[0].rpartition(":")[2]).stem for model in models)
    name = re.sub(r"[^\w.+-]+", "-", f"{names}-{patch.target or 'untargeted'}-{patch.size}")
    return Path("runs/patches") / f"{name}.safetensors"


def _shown(watch: Watch) -> Callable[[PatchProgress], None]:
    pace = Meter()

    def show(now: PatchProgress) -> None:
        share = ((now.epoch - 1) * now.batches + now.batch) / (now.epochs * now.batches)
        note = f"epoch {now.epoch} of {now.epochs}, loss {now.loss:.3f}, success {100 * now.success:.0f} %"
        watch.update(share, note, pace.reach(share))

    return show


def _tell(done: TrainedPatch) -> None:
    if done.log:
        last = done.log[-1]
        say(f"Last epoch: loss {last['loss']:.3f}, success {100 * last['success']:.1f} % of the images trained on.")
    seconds = sum(row["seconds"] for row in done.log)
    say(f"Cost: {done.passes:,} images forward and backward, {rough_duration(seconds)}.")


def _measure(
    done: TrainedPatch, models: list[Classifier], images: ImageFlags, patch: PatchFlags, fit: FitFlags, seen: SeenFlags
) -> None:
    from assay.patches import measure
    from assay.patches.evaluate import Where

    where = Where(at=place(patch.at)) if patch.at else Where(_PLACEMENTS)
    rows = [
        measure(
            done.patch, model, images.load(model, "held-out", fit.seed), where, seen.transforms(), fit.seed, fit.batch
        )
        for model in models
    ]
    print_measured(rows, f"{images.held_out} images held out")
