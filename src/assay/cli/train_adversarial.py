"""`assay train adversarial`: training at the worst points that an attack finds."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.terminal import DisplayOption, say, spoken_command
from assay.cli.train_flags import TrainFlags, finish, shown, training

if TYPE_CHECKING:
    from assay.defenses.adversarial import Surrogate
    from assay.defenses.examples import Examples
    from assay.defenses.losses import Loss
    from assay.defenses.probe import Probe


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
        from assay.defenses.adversarial import adversarial_loss

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

        from assay.defenses.adversarial import Surrogate
        from assay.models import load_model

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
        from assay.defenses.probe import Probe

        return Probe(self.size, self.norm.value)

    @property
    def size(self) -> float:
        """The size of the changes in pixel units. Raises `BadInput` for one in a model's own units."""
        from assay.core.budget import PIXEL, check_budget, parse_budget
        from assay.core.errors import BadInput

        budget = check_budget(parse_budget(self.eps), self.norm.value)
        if budget.unit != PIXEL:
            raise BadInput(f"eps is {self.eps!r}; adversarial training takes pixel units, such as 0.3 or 8/255.")
        return budget.value


def adversarial(ctx: typer.Context, flags: TrainFlags, attack: AdversarialFlags, display: DisplayOption = None) -> None:
    """Train at the worst points that an attack finds; the same command goes on after Ctrl-C.

    After every epoch the robust accuracy under PGD is measured; a training that collapses ends with the weights of its
    last good epoch.
    """
    from assay.defenses.standard import train_standard

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
    from assay.defenses.examples import FromData
    from assay.models import load_model

    model = load_model(spec)
    data = load_data(source, model=model)
    probe = dataclasses.replace(attack.probe(), steps=50, count=1000)
    count = min(probe.count, len(data))
    kept = probe(model.module, FromData(data, 0, count), seed=0).robust or 0.0
    say(
        f"{source}: {100 * kept:.2f} % of the first {count:,} right under PGD with {probe.steps} steps at "
        f"{attack.norm.value} {attack.eps}. More restarts and other attacks leave less: try --attack autoattack."
    )
