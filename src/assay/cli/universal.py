"""`assay universal train`: one change that fools a model on most images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.patch_evaluate import check_together, find_target
from assay.console.dataclass_options import expanded
from assay.console.flags import AllowPickle, Device
from assay.console.output import DisplayOption, chosen, say, spoken_command, stoppable, write
from assay.console.places import Force, refuse_taken
from assay.core.errors import BadInput
from assay.display import progress
from assay.meter import Meter

app = typer.Typer(name="universal", help="Find one change for all images.", no_args_is_help=True)


def train(
    ctx: typer.Context,
    model: Annotated[list[str], typer.Option(help="A model; several are attacked at once (repeatable).")],
    data: Annotated[str, typer.Option(help="The images to find it on.")],
    eps: Annotated[str, typer.Option(help="The size of the change, such as 0.1 or 8/255.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file.")],
    norm: Annotated[str, typer.Option(help="linf, l2 or l1.")] = "linf",
    limit: Annotated[int | None, typer.Option(help="Only the first N images.", show_default=False)] = None,
    steps: Annotated[int, typer.Option(help="Steps, each on one mini-batch.")] = 100,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 100,
    target: Annotated[str | None, typer.Option(help="The class to lead to; any wrong one.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="The seed of the order of images.")] = 0,
    device: Device = "cpu",
    force: Force = False,
    display: DisplayOption = None,
    allow_pickle: AllowPickle = False,
) -> None:  # shape: one parameter for each flag
    """Find one change that, added to any image, makes the model err.

    Measure it on images it was not made on: assay run --attack universal:file=OUT.
    """
    from assay.core.budget import check_budget, parse_budget
    from assay.data import load_data
    from assay.models import load_model
    from assay.patches.universal import UniversalRecipe, train_universal

    if out.suffix != ".safetensors":
        raise BadInput(f"--out {out}: a universal perturbation is a .safetensors file. Name it so.")
    refuse_taken(out, force=force)
    models = [load_model(one, allow_pickle=allow_pickle, device=device) for one in model]
    images = load_data(data, model=models[0], limit=limit)
    check_together(models, images)
    number, _ = find_target(target, models[0], images)
    size = check_budget(parse_budget(eps), norm).value
    recipe = UniversalRecipe(norm, size, steps, batch, target=number, seed=seed)
    with stoppable(), progress(f"Finding a change for {len(images)} images", chosen(display)) as watch:
        pace, last = Meter(), [0.0]

        def show(step: int, loss: float, fooled: float) -> None:
            last[0] = fooled
            note = f"step {step} of {steps}, objective {loss:.3f}, fooled {100 * fooled:.0f} %"
            watch.update(step / steps, note, pace.reach(step / steps))

        found = train_universal(models, images, recipe, spoken_command(ctx.obj or ()), show)
    found.save(out)
    say(
        f"Of the last mini-batch {100 * last[0]:.1f} % were fooled, those that the model gets wrong by itself included."
    )
    passes = steps * min(batch, len(images)) * len(models)
    say(f"Cost: {passes:,} images forward and backward.")
    write(str(out))
    say(f"Next      assay run --model {model[0]} --data DATA --attack universal:file={out} --norm {norm} --eps {eps}")


app.command(context_settings={"auto_envvar_prefix": "ASSAY_UNIVERSAL"})(expanded(train))
