"""`assay doctor`: is this model fit to be attacked with these images?"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from assay.console.exit_codes import Exit
from assay.console.flags import AllowPickle, AllowRandomData, Batch, Device, StudyFlags
from assay.console.output import out, say, write
from assay.console.study_from_flags import read_study
from assay.core.errors import AssayError, BadInput
from assay.vocabulary import Labels, Outputs

if TYPE_CHECKING:
    from assay.evaluation.loader import Loader
    from assay.evaluation.study.spec import DataSpec, ModelSpec, Study
    from assay.preflight.findings import Findings

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim", "good": "green"}


@dataclasses.dataclass(frozen=True)
class DoctorFlags:
    """What to examine."""

    study: Annotated[str | None, typer.Argument(help="A study file (YAML).", show_default=False)] = None
    model: Annotated[list[str] | None, typer.Option(help="A model (repeatable).", show_default=False)] = None
    data: Annotated[list[str] | None, typer.Option(help="A data set (repeatable).", show_default=False)] = None
    outputs: Annotated[
        Outputs | None, typer.Option(help="What the models return, if it is not logits.", show_default=False)
    ] = None
    labels: Annotated[
        Labels | None, typer.Option(help="predicted: the model's own answers are the labels.", show_default=False)
    ] = None
    images: Annotated[int, typer.Option(min=1, help="How many images to look at.")] = 200

    def as_study(self) -> Study:
        """Return the study asked about; one made from flags gets an attack and a budget to be complete."""
        if self.study:
            flags = StudyFlags(
                study=self.study, model=self.model, data=self.data, outputs=self.outputs, labels=self.labels
            )
        elif self.model and self.data:
            flags = StudyFlags(
                model=self.model,
                data=self.data,
                outputs=self.outputs,
                labels=self.labels,
                attack=["uniform-noise"],
                eps=["0"],
            )
        else:
            raise BadInput("Nothing to examine. Give a study file, or --model and --data.")
        return read_study(flags).study


def doctor(
    flags: DoctorFlags,
    device: Device = "cpu",
    batch: Batch = None,
    allow_pickle: AllowPickle = False,
    allow_random_data: AllowRandomData = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine models and data for what makes robustness numbers wrong: outputs, labels, gradients, modes, units."""
    from assay.evaluation.loader import Loader
    from assay.preflight.checks import pairs, steps_of
    from assay.preflight.findings import Finding, Findings, Level

    loader = Loader(device, allow_pickle, batch, allow_random_data=allow_random_data)
    study = flags.as_study()
    found, failed = [], False
    for model, data in pairs(study):
        findings = _examined(loader, model, data, flags.images)
        found += [{"model": model.label, "data": data.source, **dataclasses.asdict(one)} for one in findings]
        failed |= bool(findings.errors)
        if not as_json:
            _print(f"{model.label} on {data.source}", findings)
    steps = Findings(tuple(Finding(Level.WARNING, "steps", told) for told in steps_of(study)))
    found += [{"model": None, "data": None, **dataclasses.asdict(one)} for one in steps]
    if steps and not as_json:
        _print("The attacks", steps)
    if as_json:
        write(json.dumps(found, indent=2))
    if failed:
        raise typer.Exit(Exit.BAD_INPUT)


def _examined(loader: Loader, model: ModelSpec, data: DataSpec, images: int) -> Findings:
    from assay.preflight.asking import MOST_ASKED
    from assay.preflight.checks import examine
    from assay.preflight.findings import Finding, Findings, Level
    from assay.wording import queries

    say(f"Looking at {model.label} on {data.source} …")
    try:
        classifier = loader.model(model)
        if classifier.outside:
            say(f"{model.label} is asked at most {queries(MOST_ASKED)}.")
        return examine(classifier, loader.data(data, classifier), images, loader.batch)
    except AssayError as error:
        return Findings((Finding(Level.ERROR, "loading", str(error)),))


def _print(title: str, findings: Findings) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from assay.preflight.findings import MARKS

    table = Table.grid(padding=(0, 2, 0, 0))
    for one in findings:
        table.add_row(Text(MARKS[one.level], style=_STYLES[one.level]), Text(one.check, style="bold"), Text(one.text))
    console = out()
    console.print(Text(title, style="bold"))
    console.print(Padding(table, (0, 0, 1, 2)))
