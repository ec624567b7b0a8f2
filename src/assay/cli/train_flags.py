"""What the ways to train share: their flags, the line that shows progress, and what is said at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.console.output import Display, chosen, say, spoken_command, stoppable, write
from assay.display import progress
from assay.meter import Meter
from assay.wording import rough_duration

if TYPE_CHECKING:
    from assay.training.fit import FitProgress
    from assay.training.recipes import Trained, Training


class Schedule(enum.StrEnum):
    """How the learning rate moves."""

    TRIANGULAR = "triangular"
    PLATEAU = "plateau"


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
    classes: Annotated[
        int | None, typer.Option(help="Outputs, for torchvision: and timm: architectures.", show_default=False)
    ] = None
    out: Annotated[Path | None, typer.Option(help="Where to write (runs/METHOD-ARCH).", show_default=False)] = None

    def folder(self, method: str) -> Path:
        """Return where to write."""
        from assay.training.recipes import file_name

        return self.out or Path("runs") / f"{method}-{file_name(self.arch)}"


def training(flags: TrainFlags) -> Training:
    """Return what flags ask to train."""
    from assay.data import load_data
    from assay.training.fit import FitSettings
    from assay.training.recipes import Training

    settings = FitSettings(epochs=flags.epochs, batch=flags.batch, learning_rate=flags.learning_rate, seed=flags.seed)
    return Training(flags.arch, load_data(flags.data, limit=flags.limit), flags.validation, settings, flags.classes)


def pixel_size(written: str, norm: str, what: str) -> float:
    """Return the size of changes in pixel units. Raises `BadInput` for one in a model's own units."""
    from assay.core.budget import PIXEL, check_budget, parse_budget
    from assay.core.errors import BadInput

    budget = check_budget(parse_budget(written), norm)
    if budget.unit != PIXEL:
        raise BadInput(f"eps is {written!r}; {what} takes pixel units, such as 0.3 or 8/255.")
    return budget.value


@contextlib.contextmanager
def shown(
    ctx: typer.Context, what: str, stages: int, display: Display | None
) -> Iterator[Callable[[str, int, FitProgress], None]]:
    """Give a function that shows how far stage number `i` of `stages` is, and say how to go on after Ctrl-C."""
    command = spoken_command(ctx.obj or ())
    with stoppable(command, "The finished epochs are kept"), progress(what, chosen(display)) as watch:
        pace = Meter()

        def show(stage: str, i: int, now: FitProgress) -> None:
            share = ((now.epoch - 1) * now.batches + now.batch) / (now.epochs * now.batches)
            whole = (i + share) / stages
            note = f"epoch {now.epoch} of {now.epochs}, loss {now.loss:.3f}"
            watch.update(whole, f"{stage} {note}".strip(), pace.reach(whole))

        yield show


def finish(done: Trained, flags: TrainFlags) -> str:
    """Say what a training gave and cost, test its weights, and return how to name them as a model."""
    from assay.models.loaders.untrained import is_code

    kept = done.log.kept
    say(f"Validation accuracy {100 * kept.validation_accuracy:.2f} % after {kept.epoch} epochs.")
    say(f"Cost: {done.passes:,} samples forward and backward, {rough_duration(done.log.seconds)}.")
    write(str(done.path))
    # code is named by whoever runs it, never by the file
    spec = f"file:{done.path}" + (f"?arch={flags.arch}" if is_code(flags.arch) else "")
    if flags.test:
        _test(spec, flags)
    say(f"Use it with: --model {spec}")
    return spec


def _test(spec: str, flags: TrainFlags) -> None:
    from assay.data import load_data
    from assay.models import load_model
    from assay.training.dataset_view import FromData
    from assay.training.fit import FitSettings, validate

    model = load_model(spec)
    data = load_data(flags.test, model=model)
    accuracy = validate(model.module, FromData(data, 0, len(data)), FitSettings(batch=flags.batch))[1]
    say(f"{flags.test}: {100 * accuracy:.2f} % of {len(data):,} right, with the weights as stored.")
