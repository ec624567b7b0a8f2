"""`assay train`: networks of our own, trained by one plain loop that goes on where it was stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.exits import Exit
from assay.cli.options import expanded
from assay.cli.progress import Pace, progress
from assay.cli.terminal import DisplayOption, chosen, say, spoken_command, write

app = typer.Typer(name="train", help="Train a network.", no_args_is_help=True)


@dataclasses.dataclass(frozen=True)
class TrainFlags:
    """What to train, on what, and how."""

    arch: Annotated[str, typer.Option(help="The architecture.")] = "mnist-cnn"
    data: Annotated[str, typer.Option(help="The training data.")] = "mnist/train"
    validation: Annotated[int, typer.Option(help="How many of its last samples validate.")] = 10_000
    test: Annotated[str, typer.Option(help="Data to measure the finished weights on; '' for none.")] = "mnist/test"
    limit: Annotated[int | None, typer.Option(help="Only the first N samples.", show_default=False)] = None
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 10
    batch: Annotated[int, typer.Option(help="Samples per step.")] = 64
    learning_rate: Annotated[float, typer.Option(help="Adam's learning rate.")] = 1e-4
    seed: Annotated[int, typer.Option(help="The seed of weights, order and dropout.")] = 0
    out: Annotated[Path | None, typer.Option(help="Where to write (runs/train-ARCH).", show_default=False)] = None


def standard(ctx: typer.Context, flags: TrainFlags, display: DisplayOption = None) -> None:
    """Train a network by cross-entropy; the same command goes on after Ctrl-C.

    The defaults are the MNIST network of Sen et al. 2023 at their settings, with batch 64.
    """
    from assay.data import load_data
    from assay.defenses.fit import FitProgress, FitSettings
    from assay.defenses.standard import Training, train_standard

    settings = FitSettings(epochs=flags.epochs, batch=flags.batch, learning_rate=flags.learning_rate, seed=flags.seed)
    training = Training(flags.arch, load_data(flags.data, limit=flags.limit), flags.validation, settings)
    out = flags.out or Path("runs") / f"train-{flags.arch}"
    try:
        with progress(f"Training {flags.arch}", chosen(display)) as watch:
            pace = Pace()

            def show(now: FitProgress) -> None:
                share = ((now.epoch - 1) * now.batches + now.batch) / (now.epochs * now.batches)
                watch.update(share, f"epoch {now.epoch} of {now.epochs}, loss {now.loss:.3f}", pace.left(share))

            path, log = train_standard(training, out, spoken_command(ctx.obj or ()), show)
    except KeyboardInterrupt:
        say("Stopped. The finished epochs are kept; the same command continues:")
        say(f"  {spoken_command(ctx.obj or ())}")
        raise typer.Exit(Exit.STOPPED) from None
    say(f"Validation accuracy {100 * log.epochs[-1].validation_accuracy:.2f} % after {len(log.epochs)} epochs.")
    write(str(path))
    if flags.test:
        _test(path, flags.test)
    say(f"Use it with: --model file:{path}")


def _test(path: Path, source: str) -> None:
    from assay.data import load_data
    from assay.defenses.examples import FromData
    from assay.defenses.fit import FitSettings, validate
    from assay.models import load_model

    model = load_model(f"file:{path}")
    data = load_data(source, model=model)
    accuracy = validate(model.module, FromData(data, 0, len(data)), FitSettings())[1]
    say(f"{source}: {100 * accuracy:.2f} % of {len(data):,} right, with the weights as stored.")


app.command(context_settings={"auto_envvar_prefix": "ASSAY_TRAIN"})(expanded(standard))
