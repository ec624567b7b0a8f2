"""`assay train adversarial`: training at the worst points that an attack finds."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.terminal import DisplayOption, say, spoken_command
from assay.cli.train_flags import TrainFlags, finish, shown, training

if TYPE_CHECKING:
    from assay.defenses.losses import Loss


class How(enum.StrEnum):
    """How the worst point is sought."""

    FGSM = "fgsm"
    PGD = "pgd"
    TRADES = "trades"
    ENSEMBLE = "ensemble"


class Schedule(enum.StrEnum):
    """How the learning rate moves."""

    TRIANGULAR = "triangular"
    PLATEAU = "plateau"


@dataclasses.dataclass(frozen=True)
class AdversarialFlags:
    """Against what to train, and how the worst point is sought."""

    method: Annotated[How, typer.Option(help="fgsm (fast), pgd, trades, or ensemble.")] = How.PGD
    eps: Annotated[str, typer.Option(help="The size of the changes, such as 0.3 or 8/255.")] = "0.3"
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf"
    steps: Annotated[int, typer.Option(help="Steps of PGD.")] = 10
    step_size: Annotated[
        float | None, typer.Option(help="The step, in budgets (0.25; one step of fgsm 1.25).", show_default=False)
    ] = None
    beta: Annotated[float, typer.Option(help="The weight of the divergence, for trades.")] = 1.0
    surrogate: Annotated[
        list[str] | None, typer.Option(help="Another network, for ensemble; repeatable.", show_default=False)
    ] = None
    warmup: Annotated[float, typer.Option(help="The share of the training over which the size grows to eps.")] = 0.2
    schedule: Annotated[Schedule, typer.Option(help="The learning rate: triangular, or by plateaus.")] = (
        Schedule.TRIANGULAR
    )

    def loss(self) -> Loss:
        """Return the loss. Raises `BadInput` for flags that do not go together."""
        from assay.core.errors import BadInput
        from assay.defenses.adversarial import Ensemble, Fast, Madry, Trades
        from assay.models import load_model

        eps, size = self.size, self.step_size
        if self.surrogate and self.method is not How.ENSEMBLE:
            raise BadInput(f"--surrogate is for --method ensemble, not {self.method.value}.")
        if self.method is How.FGSM:
            return Fast(eps, 1.25 if size is None else size, self.norm, self.warmup)
        if self.method is How.ENSEMBLE:
            surrogates = tuple(load_model(spec) for spec in self.surrogate or ())
            return Ensemble(eps, surrogates, self.norm, self.warmup)
        step = 0.25 if size is None else size
        if self.method is How.TRADES:
            return Trades(eps, self.steps, step, self.beta, self.norm, self.warmup)
        return Madry(eps, self.steps, step, self.norm, self.warmup)

    @property
    def size(self) -> float:
        """The size of the changes in pixel units."""
        from assay.core.budget import check_budget, parse_budget

        return check_budget(parse_budget(self.eps), self.norm).value


def adversarial(ctx: typer.Context, flags: TrainFlags, attack: AdversarialFlags, display: DisplayOption = None) -> None:
    """Train at the worst points that an attack finds; the same command goes on after Ctrl-C.

    After every epoch the robust accuracy under PGD is measured; a training that collapses ends with the weights of its
    last good epoch.
    """
    from assay.defenses.probe import Probe
    from assay.defenses.standard import train_standard

    asked = training(flags)
    settings = dataclasses.replace(
        asked.settings, loss=attack.loss(), schedule=attack.schedule.value, probe=Probe(attack.size, attack.norm)
    )
    with shown(ctx, f"Training {flags.arch} against {attack.norm} {attack.eps}", 1, display) as show:
        done = train_standard(
            dataclasses.replace(asked, settings=settings), flags.folder(f"train-{attack.method.value}"),
            spoken_command(ctx.obj or ()), lambda now: show("", 0, now),
        )  # fmt: skip
    if done.log.stopped:
        say(done.log.stopped)
    last = done.log.epochs[-1]
    if last.robust_accuracy is not None:
        say(f"PGD with 10 steps leaves {100 * last.robust_accuracy:.1f} % of the first validation images right.")
    finish(done, flags)
