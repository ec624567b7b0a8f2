"""`assay paper`: the study of Sen et al. 2023, measured again table by table, and its page."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.console.dataclass_options import expanded
from assay.console.exit_codes import Exit
from assay.console.flags import AllowPickle
from assay.console.output import DisplayOption, chosen, say, spoken_command, stoppable, write
from assay.console.places import Figure, Force, refuse_figures, refuse_taken
from assay.console.sessions import errors_of, run_session
from assay.console.study_from_flags import StudyRequest
from assay.core.errors import BadInput
from assay.display import progress
from assay.meter import Meter
from assay.paper.commands.extension import check_extension, run_extension
from assay.paper.commands.listing import facts, print_facts
from assay.paper.commands.tables import print_view
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.execution.options import Options
    from assay.paper.choices import Choices
    from assay.paper.runs import TableRun
    from assay.patches import PatchProgress
    from assay.session import Finished


PAGE = "paper.html"
OUT = Path("runs/sen2023")


def report(
    out: Annotated[Path, typer.Option("--out", help="The directory of the paper's runs.")] = OUT,
    page: Annotated[
        Path | None, typer.Option("--page", help=f"Where to write the page (OUT/{PAGE}).", show_default=False)
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", help="Write the figures as files into a directory instead.", show_default=False),
    ] = None,
    form: Annotated[Figure, typer.Option("--format", help="What the figures are written as.")] = Figure.SVG,
    force: Force = False,
) -> None:
    """Write one page: each table and figure as printed, as published and corrected, and where they differ."""
    from assay.paper import figures as drawn
    from assay.paper.contents import contents
    from assay.paper.inputs import temperatures
    from assay.paper.measured import views
    from assay.paper.page import page as paper_page
    from assay.paper.patched import kept_patches, patch_panels

    target = page or out / PAGE
    target = target / PAGE if target.is_dir() else target
    if figures is not None:
        refuse_figures(figures, form.value, force, "--figures")
    elif target.absolute() != (out / PAGE).absolute():
        refuse_taken(target, force=force, flag="--page")
    say("Reading the runs …")
    found = contents(
        out, views=views(out), temperatures=temperatures(), patches=kept_patches(out),
        panels=patch_panels(out),
    )  # fmt: skip
    if figures is not None:
        for path in drawn.figures(found, figures, form.value):
            write(str(path))
        return
    say("Drawing the page …")
    write(str(paper_page(found, target)))


app = typer.Typer(name="paper", help="Reproduce Sen et al. 2023, table by table.", no_args_is_help=True)

_WHAT, _OF = "What is measured", "Of which networks and pictures"
_HOW = "How it is run; none of it changes a number"
_OUT = Path("runs/sen2023")


class Mode(enum.StrEnum):
    """How a table is measured."""

    AS_PUBLISHED = "as_published"
    CORRECTED = "corrected"
    BOTH = "both"


class Weights(enum.StrEnum):
    """torchvision's weights."""

    V1 = "V1"
    V2 = "V2"


def _flag(panel: str, text: str, *names: str) -> object:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


@dataclasses.dataclass(frozen=True)
class PaperFlags:
    """Which tables, on what."""

    table: Annotated[list[str] | None, _flag(_WHAT, "A table: IV, or 4 (repeatable).")] = None
    every: Annotated[bool, _flag(_WHAT, "All tables.", "--all")] = False
    extension: Annotated[
        str | None, _flag(_WHAT, "What the paper only names: defenses, under attacks that know them.")
    ] = None
    mode: Annotated[
        Mode, _flag(_WHAT, "As the public notebooks compute it, as the paper's words say, or both (both).")
    ] = Mode.BOTH
    imagenet: Annotated[Path | None, _flag(_OF, "The folder of ImageNet's validation pictures.")] = None
    weights: Annotated[Weights, _flag(_OF, "torchvision's weights; AlexNet has V1 alone (V1).")] = Weights.V1
    model_file: Annotated[
        list[str] | None, _flag(_OF, "Weights of your own: resnet101=PATH, alexnet=PATH, … (repeatable).")
    ] = None
    stand_in: Annotated[
        bool, _flag(_OF, "Other networks on 20 sample pictures: needs nothing, not comparable.", "--stand-in")
    ] = False
    image: Annotated[
        list[str] | None, _flag(_OF, "An image for Tables II and III: an id, PATH or PATH=CLASS (repeatable).")
    ] = None
    limit: Annotated[int | None, _flag(_OF, "The first N samples; not reportable.")] = None
    out: Annotated[Path, _flag(_WHAT, "The directory of all runs (runs/sen2023).")] = _OUT

    def choices(self) -> Choices:
        """Return the choices. Raises `BadInput` for those that cannot be."""
        from assay.paper.choices import Choices

        return Choices(
            out=self.out,
            imagenet=self.imagenet.expanduser().absolute() if self.imagenet else None,
            weights=self.weights.value,
            files=dict(_file(text) for text in self.model_file or ()),
            images=tuple(self.image or ()),
            limit=self.limit,
            stand_in=self.stand_in,
        )

    def numbers(self) -> list[str]:
        """Return the tables asked for. Raises `BadInput` for none, and for one that the paper does not have."""
        from assay.paper.tables import PROTOCOLS, Kind, in_order, printed_tables

        if self.table and self.every:
            raise BadInput("--table and --all: give one of them.")
        if self.table:
            return in_order(self.table)
        if not self.every and not self.stand_in:
            raise BadInput("Which table? Give --table IV, or --all. (`assay paper list` shows them)")
        # the stand-in's 90 patches take hours: Tables VII to XII are asked for by number
        return [n for n in printed_tables() if self.every or PROTOCOLS[n].kind not in (Kind.PATCHES, Kind.DIGITS)]

    def modes(self) -> tuple[str, ...]:
        """Return the modes asked for."""
        from assay.paper.tables import MODES

        return MODES if self.mode is Mode.BOTH else (self.mode.value,)


@dataclasses.dataclass(frozen=True)
class HowFlags:
    """How the runs are run."""

    executor: Annotated[str, _flag(_HOW, "serial (this process), processes or ray (serial).")] = "serial"
    workers: Annotated[int | None, _flag(_HOW, "How many processes (one per processor).")] = None
    device: Annotated[str, _flag(_HOW, "Where networks run (cpu).")] = "cpu"
    batch: Annotated[int | None, _flag(_HOW, "At most so many images per pass (chosen by image size).")] = None
    doctor: Annotated[bool, _flag(_HOW, "Look at a few images first, or not.", "--doctor/--no-doctor")] = True
    display: DisplayOption = None
    allow_pickle: AllowPickle = False

    def options(self, command: str) -> Options:
        """Return the options of a run."""
        from assay.evaluation.execution.options import Options

        return Options(
            executor=self.executor,
            workers=self.workers,
            device=self.device,
            batch=self.batch,
            allow_pickle=self.allow_pickle,
            command=command,
        )


def _file(text: str) -> tuple[str, Path]:
    network, equals, path = text.partition("=")
    if not equals or not path:
        raise BadInput(f"--model-file {text}: expected NETWORK=PATH, such as resnet101=weights/resnet101.pth.")
    return network.strip(), Path(path.strip())


def list_(
    out: Annotated[Path, typer.Option(help="The directory of all runs.")] = _OUT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the paper's tables and figures: what they measure, on what, at what cost, and what is there already."""
    found = facts(out)
    if as_json:
        write(json.dumps(found, indent=2))
    else:
        print_facts(found, out)


def run(ctx: typer.Context, flags: PaperFlags, how: HowFlags) -> None:
    """Measure tables of the paper again, and print them beside the printed numbers.

    Running again goes on where it was stopped; finished tables are left as they are.
    """
    from assay.paper.measured import view
    from assay.paper.runs import table_runs

    command = spoken_command(ctx.obj or ())
    if flags.extension is not None:
        raise typer.Exit(_run_extension(flags, how, command))
    choices, numbers = flags.choices(), flags.numbers()
    finished: dict[str, Finished] = {}
    runs = table_runs(numbers, flags.modes(), choices)
    for one in runs:
        one.check()  # a slip that concerns the last table is told before the first one runs
    with stoppable(command):
        for number in numbers:
            mine = [one for one in runs if number in one.tables]
            for one in mine:
                if one.name not in finished:
                    finished[one.name] = _run_one(one, how, command)
            if number == "XIV":
                _probe(choices, how)
            print_view(view(choices.out, number, mine[0].choices.stand_in))
            for line in _records([finished[one.name] for one in mine]):
                say(line)
    done = all(one.was_done for one in finished.values())
    say(f"Again     {command}" + ("  (nothing was left to do)" if done else ""))
    failed = sum(errors_of(one.run) for one in finished.values())
    raise typer.Exit(Exit.SOME_ERRORS if failed else Exit.DONE)


def _run_extension(flags: PaperFlags, how: HowFlags, command: str) -> Exit:
    check_extension(flags.extension or "")
    if flags.table or flags.every:
        raise BadInput("--extension and --table or --all: give one of them.")
    with stoppable(command):
        options, shown = how.options(command), chosen(how.display)
        finished = run_extension(flags.out, flags.limit, options, shown, doctor=how.doctor)
        for line in _records([finished]):
            say(line)
    if not finished.run.verdicts():
        say(f"Verdicts  assay audit {finished.run.path}  (then the same command shows them)")
    say(f"Again     {command}" + ("  (nothing was left to do)" if finished.was_done else ""))
    return Exit.SOME_ERRORS if errors_of(finished.run) else Exit.DONE


def _run_one(one: TableRun, how: HowFlags, command: str) -> Finished:
    """Run the study of a table (or of two), its patches first."""
    from assay.paper.sentences import WORDS
    from assay.session import AuditSettings

    tables = f"Table{'s' if len(one.tables) > 1 else ''} {' and '.join(one.tables)}"
    # further studies of a table are told apart by their names
    which = "" if one.name in one.protocol.studies.values() else f" ({one.name})"
    say(f"{tables}, {' and '.join(WORDS[mode] for mode in one.modes)}{which}", style="bold")
    if one.patches:
        _train(one, how)
    asked, options = StudyRequest(one.study(), one.directory, True), how.options(command)
    try:
        return run_session(asked, options, chosen(how.display), doctor=how.doctor, audit=AuditSettings("off"))
    except BadInput as error:
        # a fork would stand where no table looks for it
        raise BadInput(str(error).replace(", or --fork to start from its finished cells", "")) from error


def _train(one: TableRun, how: HowFlags) -> None:
    from assay.paper.patches import patch_orders, train_patches

    with progress("Training patches", chosen(how.display)) as watch:
        pace = Meter()

        def show(number: int, many: int, now: PatchProgress) -> None:
            share = ((now.epoch - 1) * now.batches + now.batch) / (now.epochs * now.batches)
            whole = (number + share) / many
            note = f"patch {number + 1} of {many}, epoch {now.epoch} of {now.epochs}, success {100 * now.success:.0f} %"
            watch.update(whole, note, pace.reach(whole))

        train_patches(patch_orders(one), how.device, show)


def _probe(choices: Choices, how: HowFlags) -> None:
    from assay.paper.sentences import probe_networks

    say("Gradients of the MNIST networks", style="bold")
    for path in probe_networks(choices.out, choices.limit, how.device):
        say(f"  {path}")


def _records(finished: Sequence[Finished]) -> Iterator[str]:
    for i, one in enumerate(finished):
        rows = plural(one.run.records(["cell"]).num_rows, "row")
        yield f"{'Records' if i == 0 else '':10}{one.run.path}/results  ({rows}; assay show {one.run.path})"


_COMMANDS: dict[str, Callable[..., None]] = {"list": list_, "run": run, "report": report}
for _name, _command in _COMMANDS.items():
    app.command(_name, context_settings={"auto_envvar_prefix": "ASSAY_PAPER"})(expanded(_command))
