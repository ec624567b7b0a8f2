"""`assay train certified`: a network is trained to be certified."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.train_flags import Schedule, TrainFlags, finish, pixel_size, shown, training
from assay.console.output import DisplayOption, say, spoken_command

if TYPE_CHECKING:
    from assay.training.certified import CertifiedTraining


class Bound(enum.StrEnum):
    """Which bounds are trained on."""

    IBP = "ibp"
    CROWN_IBP = "crown-ibp"


@dataclasses.dataclass(frozen=True)
class CertifiedFlags:
    """Against what to train, and how."""

    method: Annotated[Bound, typer.Option(help="Which bounds are trained on.")] = Bound.IBP
    eps: Annotated[str, typer.Option(help="The L-infinity size to certify, such as 0.1 or 8/255.")] = "0.1"
    train_eps: Annotated[
        str | None, typer.Option(help="The size trained at, a little above (1.3 of --eps).", show_default=False)
    ] = None
    warmup: Annotated[float, typer.Option(help="The share of the training on the images alone, at first.")] = 0.05
    ramp: Annotated[float, typer.Option(help="The share over which the size then grows from 0.")] = 0.4
    kappa: Annotated[float, typer.Option(help="The weight of the loss at the images that it falls to.")] = 0.5
    schedule: Annotated[Schedule, typer.Option(help="The learning rate: triangular, or by plateaus.")] = (
        Schedule.TRIANGULAR
    )

    @property
    def size(self) -> float:
        """The size to certify, in pixel units."""
        return pixel_size(self.eps, "linf", "certified training")

    def loss(self) -> CertifiedTraining:
        """Return the loss. Raises `BadInput` for flags that training cannot use."""
        from assay.training.certified import CertifiedTraining

        at = self.size * 1.3 if self.train_eps is None else pixel_size(self.train_eps, "linf", "certified training")
        return CertifiedTraining(at, self.method.value, self.warmup, self.ramp, self.kappa)


def certified(ctx: typer.Context, flags: TrainFlags, how: CertifiedFlags, display: DisplayOption = None) -> None:
    """Train at the worst logits that bounds leave possible; the same command goes on after Ctrl-C.

    What comes out can be certified by `assay certify`: a proof that no change of the size turns an answer. Networks of
    convolutions, linear layers and ReLU, with strides or average pooling; max pooling is refused.
    """
    from assay.training.certified import CertifiedProbe
    from assay.training.recipes import train_standard

    asked = training(flags)
    settings = dataclasses.replace(
        asked.settings, loss=how.loss(), schedule=how.schedule.value, probe=CertifiedProbe(how.size)
    )
    asked, out = dataclasses.replace(asked, settings=settings), flags.folder(f"train-{how.method.value}")
    with shown(ctx, f"Training {flags.arch} to be certified at linf {how.eps}", 1, display) as show:
        done = train_standard(asked, out, spoken_command(ctx.obj or ()), lambda now: show("", 0, now))
    kept = done.log.kept.certified_accuracy or 0.0
    say(f"Intervals certify {100 * kept:.1f} % of the first validation images at linf {how.eps}.")
    spec = finish(done, flags)
    if flags.test:
        _prove(spec, flags.test, how)


def _prove(spec: str, source: str, how: CertifiedFlags) -> None:
    """Say what intervals prove of test images, for the weights as stored."""
    import torch

    from assay.certification.bounds.methods import IBP
    from assay.core.draws import Draws
    from assay.core.goal import Untargeted
    from assay.core.norms import LINF
    from assay.core.problem import Problem
    from assay.core.threat import Threat
    from assay.data import load_data
    from assay.models import load_model
    from assay.training.dataset_view import FromData

    model = load_model(spec)
    data = load_data(source, model=model)
    examples, proved = FromData(data, 0, len(data)), 0
    for at in torch.split(torch.arange(len(data)), 1000):
        x, y = examples.batch(at)
        problem = Problem(model.oracle(), x, Untargeted(y), Threat(LINF, how.size))
        proved += int(IBP().prove(model, problem, [how.size], Draws(at)).certified.sum())
    say(
        f"{source}: {100 * proved / len(data):.2f} % of {len(data):,} certified by intervals at linf {how.eps}. "
        "CROWN may prove more: try `assay certify`."
    )
