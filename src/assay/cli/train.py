"""`assay train`: networks of our own, trained by one plain loop that goes on where it was stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from assay.cli.options import expanded
from assay.cli.terminal import DisplayOption, say, spoken_command
from assay.cli.train_adversarial import adversarial
from assay.cli.train_flags import TrainFlags, finish, shown, training

app = typer.Typer(name="train", help="Train a network.", no_args_is_help=True)


def standard(ctx: typer.Context, flags: TrainFlags, display: DisplayOption = None) -> None:
    """Train a network by cross-entropy; the same command goes on after Ctrl-C.

    The defaults are the MNIST network of Sen et al. 2023 at their settings, with batch 64.
    """
    from assay.defenses.standard import train_standard

    asked = training(flags)
    with shown(ctx, f"Training {flags.arch}", 1, display) as show:
        done = train_standard(asked, flags.folder("train"), spoken_command(ctx.obj or ()), lambda now: show("", 0, now))
    finish(done, flags)


def distill(
    ctx: typer.Context,
    flags: TrainFlags,
    temperature: Annotated[float, typer.Option(help="What logits are divided by in training.")] = 100.0,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="The published notebook's variant: hard labels, half the width.")
    ] = False,
    display: DisplayOption = None,
) -> None:
    """Train by defensive distillation: a teacher, then a student of its soft labels; goes on after Ctrl-C.

    Both train at the temperature and are deployed without it. The defaults are those of Sen et al. 2023. Expect
    masked gradients, and no robustness.
    """
    from assay.defenses.distill import distill, distill_as_published

    asked = training(flags)
    stages = ("student",) if as_published else ("teacher", "student")
    method = distill_as_published if as_published else distill
    out = flags.folder("distill-as-published" if as_published else "distill")
    with shown(ctx, f"Distilling {flags.arch}", len(stages), display) as show:
        done = method(
            asked,
            temperature,
            out,
            spoken_command(ctx.obj or ()),
            lambda stage, now: show(stage, stages.index(stage), now),
        )
    for stage, one in (("teacher", done.teacher), ("student", done.student)):
        if one is not None:
            say(f"The {stage}:")
            finish(one, flags)


for _command in (standard, distill, adversarial):
    app.command(context_settings={"auto_envvar_prefix": "ASSAY_TRAIN"})(expanded(_command))
