"""`assay certify`: what is proved of a model's answers; the same command goes on where it was stopped."""

# shape: a file for each command

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from assay.cli.run import RunFlags
from assay.console.flags import StudyFlags
from assay.console.output import chosen, out, say, spoken_command, stoppable
from assay.console.sessions import closing_words, exit_code, run_session
from assay.console.study_from_flags import read_study
from assay.core.errors import BadInput
from assay.vocabulary import Norm

_WHAT = "What is certified"


def _flag(text: str) -> object:
    return typer.Option(help=text, rich_help_panel=_WHAT, show_default=False)


@dataclasses.dataclass(frozen=True)
class CertifyFlags:
    """What is certified, and how."""

    model: Annotated[list[str], _flag("A model: zoo:mnist-pgd, 'my.py:factory|smoothed:sigma=0.25', … (repeatable).")]
    data: Annotated[list[str], _flag("A data set: mnist/test, folder:DIR, table:FILE, … (repeatable).")]
    eps: Annotated[list[str], _flag("Budgets: 4/255, 0.1 (repeatable, or with commas).")]
    norm: Annotated[Norm | None, _flag("The norm of the budgets (what the method is for: of crown linf).")] = None
    method: Annotated[
        list[str] | None, _flag("crown, ibp:grade=real, … (what fits the model; `assay certificates` lists them).")
    ] = None
    grid: Annotated[int | None, _flag("Speak of images on a grid: 255 for 8-bit ones.")] = None
    limit: Annotated[int | None, _flag("The first N samples; not reportable.")] = None
    sample: Annotated[int | None, _flag("N samples, drawn evenly over the classes.")] = None
    per_class: Annotated[int | None, _flag("N samples of each class.")] = None
    seed: Annotated[int | None, _flag("The seed of every random draw (0).")] = None

    def study(self) -> StudyFlags:
        """Return the same as the flags of a study. Raises `BadInput` for an unknown method or defence."""
        from assay.evaluation.study.certify import usual_certificate

        usual = usual_certificate(self.model[0])
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "method"}
        given["norm"] = self.norm or (Norm(usual.norm) if self.method is None else None)
        given["grid"] = self.grid or (usual.grid if self.method is None else None)
        return StudyFlags(**given, certify=self.method or [usual.method])


def certify(ctx: typer.Context, flags: CertifyFlags, how: RunFlags) -> None:
    """Prove for which images no change inside a budget makes a right answer wrong: a bound from below.

    Attacks bound from above: `assay run --certify first` does both. Running again goes on where it was stopped.
    """
    from assay import report

    command = spoken_command(ctx.obj or ())
    try:
        asked = read_study(flags.study(), how.out)
    except BadInput as error:
        # here the flag has another name
        raise BadInput(str(error).replace("--certify: ", "--method: ")) from None
    with stoppable(command):
        shown = chosen(how.display)
        finished = run_session(asked, how.options(command), shown, doctor=how.doctor, track=how.track)
    report.terminal(finished.run, out())
    for line in closing_words(finished, command):
        say(line)
    raise typer.Exit(exit_code(finished.run))
