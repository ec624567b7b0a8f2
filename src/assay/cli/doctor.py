"""`assay doctor`: is this model fit to be attacked with these images?"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.console import out, say, write
from assay.cli.exit_codes import Exit
from assay.cli.flagged_study import read_study
from assay.cli.flags import AllowPickle, AllowRandomData, Batch, Device, Labels, Outputs, StudyFlags
from assay.core.errors import AssayError, BadInput

if TYPE_CHECKING:
    from assay.cli.doctor_checks import Finding
    from assay.evaluation.cost import Speed
    from assay.evaluation.loader import Loader
    from assay.evaluation.study.spec import DataSpec, ModelSpec, Study

_MARKS = {"error": "✗", "warning": "!", "note": "·", "good": "✓"}
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
    from assay.cli.doctor_checks import Level
    from assay.evaluation.loader import Loader

    loader = Loader(device, allow_pickle, batch, allow_random_data=allow_random_data)
    told = []
    for model, data in pairs(flags.as_study()):
        found = _examined(loader, model, data, flags.images)
        told += [{"model": model.label, "data": data.source, **dataclasses.asdict(one)} for one in found]
        if not as_json:
            _print(f"{model.label} on {data.source}", found)
    if as_json:
        write(json.dumps(told, indent=2))
    if any(one["level"] is Level.ERROR for one in told):
        raise typer.Exit(Exit.BAD_INPUT)


def _examined(loader: Loader, model: ModelSpec, data: DataSpec, images: int) -> Sequence[Finding]:
    from assay.cli.doctor_checks import Finding, Level, examine

    say(f"Looking at {model.label} on {data.source} …")
    try:
        classifier = loader.model(model)
        return examine(classifier, loader.data(data, classifier), images, loader.batch).findings
    except AssayError as error:
        return [Finding(Level.ERROR, "loading", str(error))]


def pairs(study: Study) -> Iterator[tuple[ModelSpec, DataSpec]]:
    """Yield every model of a study with every data set it meets, once each, model by model."""
    met: dict[str, dict[tuple[ModelSpec, DataSpec], None]] = {}
    for grid in study.grids:
        for model in grid.models:
            met.setdefault(model.label, {}).update(((model, data), None) for data in grid.data)
    for of_one_model in met.values():
        yield from of_one_model


@dataclasses.dataclass(frozen=True)
class LookedAt:
    """What a look before a run gave: warnings for its manifest, and the speed of each model (by label)."""

    warnings: list[str] = dataclasses.field(default_factory=list)
    speeds: dict[str, Speed] = dataclasses.field(default_factory=dict)


def check_before_run(study: Study, loader: Loader) -> LookedAt:
    """Look at a few images of every model and data set.

    Raises `BadInput` with what would make every number wrong.
    """
    from assay.cli.doctor_checks import SILENTLY, Level, examine

    seen = LookedAt()
    for spec, source in pairs(study):
        model = loader.model(spec)
        report = examine(model, loader.data(source, model), SILENTLY, loader.batch)
        for finding in report.of(Level.ERROR):
            raise BadInput(f"{finding.text}{_way_round(finding, f'{spec.label} on {source.source}')}")
        seen.warnings.extend(f"{spec.label} on {source.source}: {one.text}" for one in report.of(Level.WARNING))
        if report.speed is not None:
            seen.speeds[spec.label] = report.speed
    return seen


def _way_round(finding: Finding, where: str) -> str:
    from assay.cli.doctor_checks import UNUSABLE

    if finding.check == UNUSABLE:
        return f"\n({where})"
    return f"\n(seen on a few images of {where}; --no-doctor goes on regardless)"


def _print(title: str, found: Sequence[Finding]) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for one in found:
        table.add_row(Text(_MARKS[one.level], style=_STYLES[one.level]), Text(one.check, style="bold"), Text(one.text))
    console = out()
    console.print(Text(title, style="bold"))
    console.print(Padding(table, (0, 0, 1, 2)))
