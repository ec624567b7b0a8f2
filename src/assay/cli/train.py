"""`assay train`: standard, distilled, adversarial and certified training; under noise and under masks."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.train_certified import certified
from assay.cli.train_flags import Schedule, TrainFlags, finish, pixel_size, shown, training
from assay.console.dataclass_options import expanded
from assay.console.output import DisplayOption, say, spoken_command

if TYPE_CHECKING:
    from assay.training.adversarial import Surrogate
    from assay.training.dataset_view import Examples
    from assay.training.losses import Loss
    from assay.training.robustness_probe import Probe


class How(enum.StrEnum):
    """How the worst point is sought."""

    FGSM = "fgsm"
    PGD = "pgd"
    TRADES = "trades"
    ENSEMBLE = "ensemble"


class Norm(enum.StrEnum):
    """In which norm the size counts."""

    LINF = "linf"
    L2 = "l2"


def _flag(text: str) -> object:
    return typer.Option(help=text, show_default=False)


@dataclasses.dataclass(frozen=True)
class AdversarialFlags:
    """Against what to train, and how the worst point is sought."""

    method: Annotated[How, typer.Option(help="How the worst point is sought.")] = How.PGD
    eps: Annotated[str, typer.Option(help="The size of the changes, such as 0.3 or 8/255.")] = "0.3"
    norm: Annotated[Norm, typer.Option(help="The norm of the size.")] = Norm.LINF
    steps: Annotated[int | None, _flag("pgd, trades: steps per search (10).")] = None
    step_size: Annotated[float | None, _flag("fgsm, pgd, trades: the step, in budgets (0.25; of fgsm 1.25).")] = None
    beta: Annotated[float | None, _flag("trades: the weight of the divergence (1).")] = None
    surrogate: Annotated[list[str] | None, _flag("ensemble: another network to find points on (repeatable).")] = None
    warmup: Annotated[float, typer.Option(help="The share of the training over which the size grows to eps.")] = 0.2
    schedule: Annotated[Schedule, typer.Option(help="The learning rate: triangular, or by plateaus.")] = (
        Schedule.TRIANGULAR
    )

    def loss(self, examples: Examples, batch: int) -> Loss:
        """Return the loss for training on `examples`. Raises `BadInput` for flags that do not go together."""
        from assay.training.adversarial import adversarial_loss

        surrogates = self._surrogates(examples, batch) if self.surrogate or self.method is How.ENSEMBLE else None
        return adversarial_loss(
            self.method.value,
            eps=self.size,
            norm=self.norm.value,
            warmup=self.warmup,
            steps=self.steps,
            step_size=self.step_size,
            beta=self.beta,
            surrogates=surrogates,
        )

    def _surrogates(self, examples: Examples, batch: int) -> tuple[Surrogate, ...]:
        import torch

        from assay.models import load_model
        from assay.training.adversarial import Surrogate

        models = [load_model(spec) for spec in self.surrogate or ()]
        found = tuple(Surrogate(model.spec, model.digest, model.module) for model in models)
        # spread over all of them: examples often lie class by class
        some = torch.linspace(0, len(examples) - 1, min(100, len(examples))).long()
        for one in found:
            for at in torch.split(some, max(1, batch)):
                one.check(*examples.batch(at))
        return found

    def probe(self) -> Probe:
        """Return what measures robustness after every epoch."""
        from assay.training.robustness_probe import Probe

        return Probe(self.size, self.norm.value)

    @property
    def size(self) -> float:
        """The size of the changes in pixel units. Raises `BadInput` for one in a model's own units."""
        return pixel_size(self.eps, self.norm.value, "adversarial training")


def adversarial(ctx: typer.Context, flags: TrainFlags, attack: AdversarialFlags, display: DisplayOption = None) -> None:
    """Train at the worst points that an attack finds; the same command goes on after Ctrl-C.

    After every epoch the robust accuracy under PGD is measured; a training that collapses ends with the weights of its
    last good epoch.
    """
    from assay.training.recipes import train_standard

    asked = training(flags)
    settings = dataclasses.replace(
        asked.settings,
        loss=attack.loss(asked.parts()[0], flags.batch),
        schedule=attack.schedule.value,
        probe=attack.probe(),
    )
    asked, out = dataclasses.replace(asked, settings=settings), flags.folder(f"train-{attack.method.value}")
    with shown(ctx, f"Training {flags.arch} against {attack.norm.value} {attack.eps}", 1, display) as show:
        done = train_standard(asked, out, spoken_command(ctx.obj or ()), lambda now: show("", 0, now))
    if done.log.stopped:
        say(done.log.stopped)
    kept = done.log.kept.robust_accuracy
    if kept is not None:
        say(f"PGD with 10 steps leaves {100 * kept:.1f} % of the first validation images right.")
    spec = finish(done, flags)
    if flags.test:
        _test_robustness(spec, flags.test, attack)


def _test_robustness(spec: str, source: str, attack: AdversarialFlags) -> None:
    """Say what a longer PGD leaves of the test accuracy of the weights as stored."""
    from assay.data import load_data
    from assay.models import load_model
    from assay.training.dataset_view import FromData

    model = load_model(spec)
    data = load_data(source, model=model)
    probe = dataclasses.replace(attack.probe(), steps=50, count=1000)
    count = min(probe.count, len(data))
    kept = probe(model.module, FromData(data, 0, count), seed=0).robust or 0.0
    say(
        f"{source}: {100 * kept:.2f} % of the first {count:,} right under PGD with {probe.steps} steps at "
        f"{attack.norm.value} {attack.eps}. More restarts and other attacks leave less: try --attack autoattack."
    )


app = typer.Typer(name="train", help="Train a network.", no_args_is_help=True)


def standard(ctx: typer.Context, flags: TrainFlags, display: DisplayOption = None) -> None:
    """Train a network by cross-entropy; the same command goes on after Ctrl-C.

    The defaults are the MNIST network of Sen et al. 2023 at their settings, with batch 64.
    """
    from assay.training.recipes import train_standard

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
    from assay.training.distillation import distill, distill_as_published

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


def smoothed(
    ctx: typer.Context,
    flags: TrainFlags,
    sigma: Annotated[float, typer.Option(help="The deviation of the noise, of the range [0, 1].")] = 0.25,
    clip: Annotated[bool, typer.Option(help="Cut noisy images to [0, 1].")] = True,
    display: DisplayOption = None,
) -> None:
    """Train under Gaussian noise, for randomised smoothing; the same command goes on after Ctrl-C.

    What is measured and certified is the smoothed classifier, with the same sigma: MODEL|smoothed:sigma=0.25.
    """
    from assay.training.losses import GaussianAugmentation
    from assay.training.recipes import train_standard

    asked = training(flags)
    settings = dataclasses.replace(asked.settings, loss=GaussianAugmentation(sigma, clip), schedule="triangular")
    asked, out = dataclasses.replace(asked, settings=settings), flags.folder("train-smoothed")
    with shown(ctx, f"Training {flags.arch} under noise of {sigma:g}", 1, display) as show:
        done = train_standard(asked, out, spoken_command(ctx.obj or ()), lambda now: show("", 0, now))
    spec = finish(done, flags)
    say(f"Smoothed: --model '{spec}|smoothed:sigma={sigma:g}{'' if clip else ',clip=false'}'")


def masked(
    ctx: typer.Context,
    flags: TrainFlags,
    size: Annotated[int, typer.Option(help="The side of a square, in pixels.")] = 8,
    squares: Annotated[int, typer.Option(help="Squares on each image.")] = 2,
    fill: Annotated[float, typer.Option(help="The grey level that squares are filled with, 0 to 1.")] = 0.0,
    display: DisplayOption = None,
) -> None:
    """Train on images with squares masked at random, for double masking; the same command goes on after Ctrl-C.

    The squares are as large as the masks that the defence will use: 8 of 28 pixels for patches of 5.
    """
    from assay.training.losses import Masked
    from assay.training.recipes import train_standard

    asked = training(flags)
    settings = dataclasses.replace(asked.settings, loss=Masked(size, squares, fill), schedule="triangular")
    asked, out = dataclasses.replace(asked, settings=settings), flags.folder("train-masked")
    with shown(ctx, f"Training {flags.arch} under masks", 1, display) as show:
        done = train_standard(asked, out, spoken_command(ctx.obj or ()), lambda now: show("", 0, now))
    spec = finish(done, flags)
    say(f"Behind the defence: --model '{spec}|double-masking:patch=5'")


for _command in (standard, distill, adversarial, certified, smoothed, masked):
    app.command(context_settings={"auto_envvar_prefix": "ASSAY_TRAIN"})(expanded(_command))
