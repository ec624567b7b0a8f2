"""`assay defend fit`: what a chain of defences needs to know is learned from training images, and thresholds frozen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.console.dataclass_options import expanded
from assay.console.flags import AllowPickle, Device
from assay.console.output import DisplayOption, chosen, say, spoken_command, stoppable, write
from assay.display import progress
from assay.meter import Meter

if TYPE_CHECKING:
    from assay.training.defense_fit import DefenseFit, FitStage

app = typer.Typer(name="defend", help="Fit defences to a network.", no_args_is_help=True)


def fit(
    ctx: typer.Context,
    spec: Annotated[str, typer.Argument(help="A model and its defences: 'zoo:mnist-cnn|squeeze-detector:fpr=0.05'.")],
    data: Annotated[str, typer.Option(help="Training images: nothing that is fitted may be measured on them.")],
    held_out: Annotated[
        int | None,
        typer.Option(min=1, help="How many of them choose thresholds (500, or a fifth of few).", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The .safetensors file; without it the spec finds it.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many images, evenly over the classes.")] = 10_000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images, for what is trained.")] = 10,
    seed: Annotated[int, typer.Option(help="The seed of choices, weights and order.")] = 0,
    device: Device = "cpu",
    display: DisplayOption = None,
    allow_pickle: AllowPickle = False,
) -> None:  # shape: one parameter for each flag
    """Fit the defences of a spec, from the innermost outwards; the same command goes on after Ctrl-C.

    Thresholds are chosen on held-out clean images and frozen. Use training data only.
    """
    from assay.core.errors import BadInput
    from assay.defenses.chain import SEPARATOR
    from assay.models import load_model
    from assay.training.defense_fit import fit_defense

    name, bar, chain = spec.partition(SEPARATOR)
    if not bar:
        raise BadInput(f"{spec!r} names no defence; write for example '{spec}|max-softmax'.")
    if out is not None and out.suffix != ".safetensors":
        raise BadInput(f"--out {out}: what was fitted is a .safetensors file. Name it so.")
    model = load_model(name.strip(), allow_pickle=allow_pickle, device=device)
    command = spoken_command(ctx.obj or ())
    with stoppable(command, "Finished epochs are kept"), progress(f"Fitting {chain}", chosen(display)) as watch:
        pace = Meter()

        def show(now: FitStage) -> None:
            whole = (now.done + now.share) / now.steps
            watch.update(whole, now.note, pace.reach(whole))

        done = fit_defense(
            model, chain, data, held_out=held_out, limit=limit, out=out, epochs=epochs, seed=seed, on_progress=show
        )
    _tell(done, out)


def _tell(done: DefenseFit, out: Path | None) -> None:
    model = done.classifier
    fitted = model.fitted
    assert fitted is not None, "a fit was made"
    if done.known:
        say("This was fitted before; nothing was done.")
    say(f"Fitted on {fitted.told['images']:,} images of {fitted.told['data']}. Use none of them to measure it.")
    for at, one in fitted.thresholds.items():
        low, high = done.intervals[at]
        say(
            f"{model.defenses[at].name}: refuses scores above {one.value:.6g}. Asked for {100 * one.fpr:g} % of clean "
            f"images; by {one.n:,} held-out ones it is {100 * low:.1f} to {100 * high:.1f} % (95 % interval)."
        )
    write(str(done.path))
    say(f"Digest {model.digest}")
    say(f"Use it with: --model '{done.spec(named=out is not None)}'")


app.command(context_settings={"auto_envvar_prefix": "ASSAY_DEFEND"})(expanded(fit))
