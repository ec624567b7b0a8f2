"""`assay corrupt`: accuracy on corrupted images, an average case; the same command goes on where it was stopped."""

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
from assay.vocabulary import Labels, Outputs

_WHAT = "What is measured"


def _flag(text: str) -> object:
    return typer.Option(help=text, rich_help_panel=_WHAT, show_default=False)


@dataclasses.dataclass(frozen=True)
class CorruptionFlags:
    """What is corrupted, and how."""

    model: Annotated[list[str], _flag("A model: torchvision:resnet50, my.py:factory, … (repeatable).")]
    data: Annotated[list[str], _flag("A data set, or a published tree: folder:DIR, imagenet-c:DIR, … (repeatable).")]
    corruptions: Annotated[
        str, _flag("standard (the fifteen of the mean), all (four more), or names: fog,snow (standard).")
    ] = "standard"
    severities: Annotated[str | None, _flag("3, 1-5 or 1,3 (1-5; of MNIST-C those of the published files).")] = None
    outputs: Annotated[Outputs | None, _flag("What the models return, if it is not logits.")] = None
    limit: Annotated[int | None, _flag("The first N samples; not reportable.")] = None
    sample: Annotated[int | None, _flag("N samples, drawn evenly over the classes.")] = None
    per_class: Annotated[int | None, _flag("N samples of each class.")] = None
    labels: Annotated[Labels | None, _flag("predicted: the model's answers to the images as they are.")] = None

    def study(self) -> StudyFlags:
        """Return the same as the flags of a study."""
        return StudyFlags(**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})


def corrupt(ctx: typer.Context, flags: CorruptionFlags, how: RunFlags) -> None:
    """Measure accuracy on corrupted images: noise, blur, weather, digital. An average case, no attack and no verdict.

    Running again goes on where it was stopped; added corruptions run alone. RGB images need the extra `corruptions`.
    """
    from assay import report

    command = spoken_command(ctx.obj or ())
    asked = read_study(flags.study(), how.out)
    with stoppable(command):
        shown = chosen(how.display)
        finished = run_session(asked, how.options(command), shown, doctor=how.doctor, track=how.track)
    report.terminal(finished.run, out())
    for line in closing_words(finished, command):
        say(line)
    raise typer.Exit(exit_code(finished.run))
