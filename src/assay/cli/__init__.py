"""The command line: one file per command, registered in one visible table.

Nothing here imports torch before a command runs: `assay --help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from assay.cli import (
    audit,
    baseline,
    certify,
    compare,
    corrupt,
    defend,
    demo,
    doctor,
    export,
    gate,
    gather,
    listing,
    patch,
    plan,
    play,
    run,
    runs,
    train,
    transfer,
    universal,
    validate,
)
from assay.console.dataclass_options import expanded
from assay.console.exit_codes import EPILOG, in_words
from assay.console.output import say
from assay.paper.commands import paper

_MEASURE, _LOOK, _FIND = "Measure", "Look at runs", "Find out what there is"

app = typer.Typer(
    name="assay",
    help="Measure how robust an image classifier really is, and how far each number can be trusted.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for panel, commands in {
    _MEASURE: (
        run.run,
        audit.audit,
        plan.plan,
        validate.validate,
        doctor.doctor,
        transfer.transfer,
        corrupt.corrupt,
        certify.certify,
        train.app,
        defend.app,
        patch.app,
        universal.app,
        paper.app,
        demo.demo,
        play.play,
    ),
    _LOOK: (runs.ls, runs.show, gather.gather, runs.report, gate.gate, compare.compare, baseline.app, export.app),
    _FIND: (listing.models, listing.attacks, listing.defenses, listing.certificates, listing.app, validate.schema),
}.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=panel)
        else:
            name = command.__name__
            settings = {"auto_envvar_prefix": f"ASSAY_{name.upper()}"}
            app.command(name, rich_help_panel=panel, context_settings=settings)(expanded(command))


def _version(wanted: bool) -> None:
    if wanted:
        import assay

        sys.stdout.write(f"assay {assay.__version__}\n")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Measure how robust an image classifier really is, and how far each number can be trusted."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and leave with one of the documented exit codes."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # taken here so that it may stand anywhere in the line
    debug = "--debug" in given
    line = [argument for argument in given if argument != "--debug"]
    try:
        app(line, prog_name="assay", obj=line)
    except (Exception, SystemExit) as error:
        told = in_words(error)
        if told is None:
            raise
        message, code = told
        if debug:
            say("".join(traceback.format_exception(error)))
        say(message)
        sys.exit(code)
