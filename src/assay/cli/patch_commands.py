"""Flags of the commands of `assay patch`: the patch, its training, transformations, places, and the images."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.console import DisplayOption, chosen, say, spoken_command, write
from assay.cli.exit_codes import Exit
from assay.cli.flags import AllowPickle, Device
from assay.cli.patch_evaluate import print_measured
from assay.cli.patch_target import check_together, find_target
from assay.cli.places import Force, refuse_taken
from assay.cli.progress import Pace, Watch, progress
from assay.core.errors import BadInput
from assay.wording import plural, rough_duration

if TYPE_CHECKING:
    from assay.data import Data
    from assay.models import Classifier
    from assay.patches import PatchProgress, Recipe, TrainedPatch
    from assay.patches.transforms import Transforms


_PATCH, _WHICH = "The patch", "Which images"
_HOW = "How it is trained (the defaults are those of Sen et al. 2023)"
_SEEN = "How it is seen (all but brightness and contrast need the extra eot)"
_BATCH = 32


def flag(panel: str, text: str, *names: str, default: bool = False) -> object:
    """Return an option of a panel; its default is in the text, or is shown."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=default)


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
    batch: Annotated[
        int | None,
        flag(_HOW, f"Images per step; a smaller last batch is left out ({_BATCH}, or all where there are fewer)."),
    ] = None
    optimizer: Annotated[str, flag(_HOW, "sgd or adam (sgd).")] = "sgd"
    rate: Annotated[float, flag(_HOW, "The step's length (0.1).")] = 0.1
    momentum: Annotated[float, flag(_HOW, "The momentum of sgd (0.8).")] = 0.8
    published: Annotated[
        bool, flag(_HOW, "Places of the public notebook: the last two rows and columns are never used.", "--published")
    ] = False
    seed: Annotated[int, flag(_HOW, "The seed of order, places and the held-out part (0).")] = 0

    def batch_of(self, images: int) -> int:
        """Return how many of `images` a step takes."""
        return min(_BATCH, images) if self.batch is None else self.batch


@dataclasses.dataclass(frozen=True)
class SeenFlags:
    """Ranges of the transformations between the patch and the model."""

    rotation: Annotated[float, flag(_SEEN, "Degrees to both sides (0).")] = 0.0
    scale: Annotated[str, flag(_SEEN, "From,to: 0.7,1.1 (1,1).")] = "1,1"
    perspective: Annotated[float, flag(_SEEN, "Each corner moves by up to this share of a side (0).")] = 0.0
    brightness: Annotated[float, flag(_SEEN, "Light added or taken, 0 to 1 (0).")] = 0.0
    contrast: Annotated[float, flag(_SEEN, "Contrast gained or lost, as a share (0).")] = 0.0
    jpeg: Annotated[int | None, flag(_SEEN, "JPEG of the whole image, at this quality or better (none).")] = None

    def transforms(self) -> Transforms:
        """Return the ranges. Raises `BadInput` for those that mean nothing."""
        from assay.patches.transforms import Transforms

        try:
            low, high = (float(part) for part in self.scale.split(","))
        except ValueError:
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BadInput(f"--scale {self.scale}: expected FROM,TO such as 0.7,1.1.")
        return Transforms(self.rotation, (low, high), self.perspective, self.brightness, self.contrast, self.jpeg)


@dataclasses.dataclass(frozen=True)
class ImageFlags:
    """The images, and which part of them."""

    data: Annotated[str, flag(_WHICH, "A data set: samples, imagenet:DIR, folder:DIR, … (samples).")] = "samples"
    per_class: Annotated[int | None, flag(_WHICH, "So many images of each class.")] = None
    limit: Annotated[int | None, flag(_WHICH, "The first N images.")] = None
    held_out: Annotated[
        int | None, flag(_WHICH, "So many images are kept for measuring and not trained on; evaluate takes these.")
    ] = None

    def load(self, model: Classifier, part: str, seed: int) -> Data:
        """Return one `part` (`rest` or `held-out`) of the images as the model wants them; all, where none is held out.

        Raises `BadInput` where the part would be empty.
        """
        from assay.data import load_data

        if not self.held_out:
            return load_data(self.data, model=model, per_class=self.per_class, limit=self.limit, seed=seed)
        count = len(load_data(self.data, model=model, per_class=self.per_class, seed=seed))
        if not 0 < self.held_out < count:
            raise BadInput(
                f"--held-out is {self.held_out} of {count} images; expected 1 to {count - 1}, as some must be left to "
                "train on."
            )
        chosen = f"{part} {self.held_out}"
        return load_data(self.data, model=model, per_class=self.per_class, limit=self.limit, part=chosen, seed=seed)

    def spoken(self, seed: int) -> list[str]:
        """Return the flags that choose the same images again."""
        given = {"--per-class": self.per_class, "--limit": self.limit, "--held-out": self.held_out}
        chosen = [word for name, value in given.items() if value for word in (name, str(value))]
        return ["--data", self.data, *chosen, *(["--seed", str(seed)] if seed or self.held_out else [])]


def place(written: str | None) -> tuple[int, int] | None:
    """Return the (row, column) of `X,Y`."""
    from assay.evaluation.study.patch_attack import parse_place

    return parse_place(written)


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
        with progress(f"Training on {len(data)} images", chosen(display)) as watch:
            done = train_patch(models, data, recipe, path.with_suffix(".training"), command, _shown(watch))
    except KeyboardInterrupt:
        say(f"Stopped. The finished epochs are kept; the same command continues:\n  {command}")
        raise typer.Exit(Exit.STOPPED) from None
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
