"""`assay export`: what a run found, as files for other programs."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from assay.console.dataclass_options import expanded
from assay.console.exit_codes import Exit
from assay.console.flags import AllowPickle, Batch, Device
from assay.console.output import DisplayOption, chosen, say, spoken_command, stoppable, write
from assay.console.places import Force
from assay.console.sessions import tell_gaps
from assay.core.errors import BadInput
from assay.display import progress
from assay.meter import Meter
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.export.images import Choice, Exported


class WithNumbers(TyperGroup):
    """A group in which `assay export RUN --to csv` is `assay export numbers RUN --to csv`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command `numbers` where none is named."""
        asks = any(one == "--to" or one.startswith("--to=") for one in args)
        named = bool(args) and args[0] in self.commands and not (asks and args[0] != NUMBERS)
        if args and not named and not (args[0] in ctx.help_option_names and not asks):
            args = [NUMBERS, *args]
        return super().parse_args(ctx, args)


NUMBERS = "numbers"

app = typer.Typer(
    name="export",
    cls=WithNumbers,
    help="Write what a run found: `assay export RUN --to FORM` the numbers, `assay export images RUN` the images.",
    no_args_is_help=True,
)

_WHICH = "Which images"


class Form(enum.StrEnum):
    """What images can be written as."""

    PNG = "png"
    NPY = "npy"
    SAFETENSORS = "safetensors"


class To(enum.StrEnum):
    """What the numbers can be written for."""

    JSON = "json"
    CSV = "csv"
    MODEL_CARD = "model-card"
    CROISSANT = "croissant"
    EVIDENCE = "evidence"
    MLFLOW = "mlflow"
    WANDB = "wandb"


class Only(enum.StrEnum):
    """The images of which samples."""

    BROKEN = "broken"
    ALL = "all"


def _flag(panel: str, text: str, *names: str) -> object:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


@dataclasses.dataclass(frozen=True)
class ChoiceFlags:
    """Which images, and as what."""

    form: Annotated[Form, typer.Option("--as", help="8-bit pictures, or exact float32 arrays.")] = Form.PNG
    only: Annotated[Only, _flag(_WHICH, "Those that an attack broke, or those of all samples (broken).")] = Only.BROKEN
    cell: Annotated[list[str] | None, _flag(_WHICH, "A cell by its digest, or its beginning (repeatable).")] = None
    attack: Annotated[list[str] | None, _flag(_WHICH, "An attack: pgd, or 'pgd(steps=40)' (repeatable).")] = None
    eps: Annotated[list[str] | None, _flag(_WHICH, "A budget: 4/255 (repeatable, or with commas).")] = None
    model: Annotated[list[str] | None, _flag(_WHICH, "A model of the run (repeatable).")] = None
    data: Annotated[list[str] | None, _flag(_WHICH, "A data set of the run (repeatable).")] = None

    def choice(self) -> Choice:
        """Return the choice."""
        from assay.console.study_from_flags import parse_budgets
        from assay.evaluation.export.images import Choice

        return Choice(
            form=self.form.value,
            only=self.only.value,
            cells=self.cell or (),
            attacks=self.attack or (),
            eps=parse_budgets(self.eps or ()),
            models=self.model or (),
            data=self.data or (),
        )


@dataclasses.dataclass(frozen=True)
class HowFlags:
    """How they are made again."""

    device: Device = "cpu"
    batch: Batch = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    display: DisplayOption = None
    allow_pickle: AllowPickle = False


def images(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(help="A run directory, such as runs/demo.")],
    out: Annotated[Path, typer.Option(help="The folder to write to: a new one, or the one of this same export.")],
    flags: ChoiceFlags,
    how: HowFlags,
) -> None:
    """Write the adversarial images of a run, with an index; the same command goes on after Ctrl-C.

    Each attack is run again from its seed, and its results are held against the records. Every image is judged as it
    was written: rounding to 8 bits undoes some.
    """
    from assay.evaluation.export.images import export_images
    from assay.evaluation.loader import Loader
    from assay.evaluation.run import Run

    choice, run = flags.choice(), Run.open(directory)
    loader = Loader(how.device, how.allow_pickle, how.batch)
    with stoppable(spoken_command(ctx.obj or ())), progress("Exporting", chosen(how.display)) as watch:
        pace = Meter()
        found = export_images(
            run, out, choice, loader=loader, on_progress=lambda share: watch.update(share, "", pace.reach(share))
        )
    if how.as_json:
        write(json.dumps(as_plain(found), indent=2))
    else:
        for line in told(found):
            say(line)
        write(str(found.index))
    raise typer.Exit(Exit.SOME_ERRORS if found.differ else Exit.DONE)


def numbers(
    directory: Annotated[str, typer.Argument(help="A run directory, such as runs/demo, or one in a store: s3://….")],
    to: Annotated[list[To], typer.Option(help="What to write them for (repeatable).")],
    out: Annotated[
        Path | None,
        typer.Option(help="The file or folder to write to (DIRECTORY/exports/…).", show_default=False),
    ] = None,
    force: Force = False,
) -> None:
    """Write the numbers of a run for other programs: the same as in `assay show --json`.

    `numbers` can be left out: assay export runs/demo --to csv. Nothing is sent anywhere, but to MLflow where
    MLFLOW_TRACKING_URI says.
    """
    from assay.evaluation.run import Run
    from assay.exports.table import export_run

    if out is not None and len(to) > 1:
        raise BadInput(
            f"--out {out} is one place, and --to names {len(to)} exports. Leave it out, or export one by one."
        )
    run = Run.open(directory)
    tell_gaps(run)
    for reason in run.manifest.get("not_reportable_because", ()):
        say(f"Not reportable: {reason}. The export says so.", style="yellow")
    for one in to:
        for written in export_run(run, one.value, out, force=force):
            write(written)


def as_plain(found: Exported) -> dict[str, Any]:
    """Return what was written as plain values."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(found).items()}


def told(found: Exported) -> Iterator[str]:
    """Yield what was written, and what is wrong with some of it."""
    yield f"{plural(found.images, 'image')} in {found.folder}."
    lost = found.broken - found.fooling
    if lost:
        yield (
            f"{lost:,} of the {found.broken:,} broken ones no longer fool the model as written (still_fools in the "
            "index). --as npy and --as safetensors keep every value; a study with --grid 255 attacks such images."
        )
    if found.outside:
        yield f"{found.outside:,} fool it, but lie outside the budget or the box as written (inside_budget is false)."
    if found.differ:
        yield (
            f"{found.differ:,} results came out differently from their records and were not written: the model is not "
            "the same each time, or the machine, the device or torch differ from those of the run."
        )
    if found.missing:
        yield f"Not here: {plural(found.missing, 'chunk')} that the run has not finished. Finish it, and export anew."


for _command in (images, numbers):
    app.command(context_settings={"auto_envvar_prefix": "ASSAY_EXPORT"})(expanded(_command))
