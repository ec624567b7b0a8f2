"""`assay run`: attack models, keep records, print the numbers; the same command goes on where it was stopped."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.console.flags import AllowPickle, AllowRandomData, StudyFlags
from assay.console.output import DisplayOption, chosen, out, say, spoken_command, stoppable
from assay.console.sessions import closing_words, exit_code, run_session
from assay.console.study_from_flags import read_study
from assay.console.usual_attack import with_usual_attack
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.evaluation.execution.options import Options

_HOW = "How it is run; none of it changes a number"


def _flag(text: str, *names: str) -> object:
    return typer.Option(*names, help=text, rich_help_panel=_HOW, show_default=False)


class Track(enum.StrEnum):
    """The trackers of experiments that a run can be followed by."""

    MLFLOW = "mlflow"


@dataclasses.dataclass(frozen=True)
class RunFlags:
    """How a study is run."""

    out: Annotated[Path | None, _flag("The run directory (runs/STUDY).")] = None
    fork: Annotated[bool, _flag("Start beside a directory of another study, from its finished cells.", "--fork")] = (
        False
    )
    share: Annotated[
        str | None, _flag("Run a share beside others in one directory: 3/8, or slurm in a job array (all of it).")
    ] = None
    executor: Annotated[str, _flag("serial (this process), processes or ray (serial).")] = "serial"
    address: Annotated[
        str | None, _flag("The Ray cluster: auto, HOST:PORT, ray://HOST:PORT (one of this machine alone).")
    ] = None
    workers: Annotated[int | None, _flag("How many processes (one per processor).")] = None
    device: Annotated[str, _flag("Where models run (cpu).")] = "cpu"
    devices: Annotated[
        str | None, _flag("A worker process on each: cuda:0,cuda:1 (--workers N: N in all, dealt out in turn).")
    ] = None
    batch: Annotated[int | None, _flag("At most so many images per pass (chosen by image size).")] = None
    fail_on_error: Annotated[
        str | None, _flag("End with code 1 above so many failed samples: any, a share (0.05), or a count (10).")
    ] = None
    retry_errors: Annotated[bool, _flag("Try samples that failed before again.", "--retry-errors")] = False
    doctor: Annotated[bool, _flag("Look at a few images first, or not.", "--doctor/--no-doctor")] = True
    track: Annotated[Track | None, _flag("Tell a tracker of experiments of the run, live: mlflow.")] = None
    display: DisplayOption = None
    allow_pickle: AllowPickle = False
    allow_random_data: AllowRandomData = False

    def options(self, command: str) -> Options:
        """Return the options of a run."""
        from assay.evaluation.execution.options import Options

        return Options(
            executor=self.executor,
            workers=self.workers,
            address=self.address,
            fork=self.fork,
            share=self.share,
            fail_on_error=parse_failures(self.fail_on_error),
            retry_errors=self.retry_errors,
            device=self.device,
            devices=self.devices,
            batch=self.batch,
            allow_pickle=self.allow_pickle,
            allow_random_data=self.allow_random_data,
            command=command,
        )


def run(ctx: typer.Context, flags: StudyFlags, how: RunFlags) -> None:
    """Attack models, keep every sample's record, and print the numbers.

    Running again goes on where it was stopped; a finished study is left as it is; added cells run alone.
    """
    from assay import report

    command = spoken_command(ctx.obj or ())
    options = how.options(command)
    loader = options.loader()
    asked = read_study(with_usual_attack(flags, loader), how.out)
    with stoppable(command):
        finished = run_session(asked, options, chosen(how.display), doctor=how.doctor, loader=loader, track=how.track)
    report.terminal(finished.run, out())
    for line in closing_words(finished, command):
        say(line)
    raise typer.Exit(exit_code(finished.run))


def parse_failures(text: str | None) -> bool | float:
    """Read how many samples may fail: nothing said is any number, `any` is none at all.

    Raises `BadInput` for what is neither a share nor a count.
    """
    if text is None:
        return False
    if text.lower() in ("any", "true", "0"):
        return True
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise BadInput(
            f"--fail-on-error {text} is no limit; expected any, a share such as 0.05, or a count such as 10."
        )
    return value
