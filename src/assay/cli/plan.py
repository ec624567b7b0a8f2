"""`assay plan`: what a study will cost before it is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.console.flags import AllowPickle, AllowRandomData, Batch, Device, StudyFlags
from assay.console.output import out as stdout
from assay.console.output import say, write
from assay.console.study_from_flags import read_study
from assay.console.usual_attack import with_usual_attack
from assay.core.errors import BadInput
from assay.wording import file_size, plural, rough_duration

if TYPE_CHECKING:
    from assay.evaluation.cell import Cell
    from assay.evaluation.cost import Estimate, Speed
    from assay.evaluation.loader import Loader
    from assay.evaluation.plan import Plan

_TIMED = 8


def plan(
    flags: StudyFlags,
    out: Annotated[
        Path | None, typer.Option(help="The run directory: what is finished there is not counted.", show_default=False)
    ] = None,
    device: Device = "cpu",
    batch: Batch = None,
    allow_pickle: AllowPickle = False,
    allow_random_data: AllowRandomData = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # shape: one parameter for each flag
    """Say what a study will cost: cells, passes, disk, and time from a short measurement."""
    from assay.evaluation.cost import estimate
    from assay.evaluation.loader import Loader
    from assay.evaluation.plan import make_plan
    from assay.evaluation.records.store import Store

    loader = Loader(device, allow_pickle, batch, allow_random_data=allow_random_data)
    asked = read_study(with_usual_attack(flags, loader), out)
    planned = make_plan(asked.study, loader)
    done = Store(asked.directory).done(planned.cells)[0] if asked.directory.is_dir() else {}
    left = estimate(planned, done, _speeds(planned, loader))
    if as_json:
        write(json.dumps(_plain(planned, left, asked.directory), indent=2))
    else:
        _print(planned, left, asked.directory)


def _speeds(planned: Plan, loader: Loader) -> dict[str, Speed]:
    """Time each model on a few of its images."""
    import torch

    from assay.data import Sample
    from assay.evaluation.cost import time_passes

    speeds = {}
    for cell in {cell.model.label: cell for cell in planned.cells}.values():
        say(f"Timing {cell.model.label} …")
        bench, data = loader.bench(cell), loader.samples(cell)
        samples = [one for one in data.load(range(min(_TIMED, len(data)))) if isinstance(one, Sample)]
        if not samples:
            raise BadInput(f"None of the first {_TIMED} images of {cell.data.source} can be read. Use other data.")
        images = torch.stack([sample.image for sample in samples]).to(bench.device)
        labels = [sample.label for sample in samples]
        # the first round warms up: it would make small models look far slower than they are
        _, speeds[cell.model.label] = (time_passes(bench.oracle, images, labels) for _ in range(2))
    loader.close()
    return speeds


def _plain(planned: Plan, left: Estimate, directory: Path) -> dict[str, Any]:
    return {
        "study": planned.study.study,
        "directory": str(directory),
        "cells": [{"cell": cell.digest, **_told(cell)} for cell in planned.cells],
        "units": len(planned.units),
        "units_left": left.units,
        "records_left": left.records,
        "forwards_left": left.passes.forwards,
        "backwards_left": left.passes.backwards,
        "seconds_left": left.seconds,
        "bytes_left": left.bytes,
    }


def _told(cell: Cell) -> dict[str, Any]:
    from assay.evaluation.passes import passes_per_sample

    passes = passes_per_sample(cell)
    return {
        "model": cell.model.label,
        "data": cell.data.source,
        "attack": cell.certificate.label if cell.certificate else cell.attack.label,
        "threat": cell.threat.label,
        "eps": [budget.written for budget in cell.budgets],
        "question": cell.question,
        "samples": cell.n,
        "forwards_per_sample": passes.forwards,
        "backwards_per_sample": passes.backwards,
    }


def _print(planned: Plan, left: Estimate, directory: Path) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "data", "attack", "threat", "budgets", box=box.SIMPLE_HEAD)
    for title in ("samples", "passes each"):
        table.add_column(title, justify="right")
    for cell in planned.cells:
        told = _told(cell)
        texts = [Text(str(told[name])) for name in ("model", "data", "attack", "threat")]
        passes = f"{told['forwards_per_sample']} + {told['backwards_per_sample']}"
        table.add_row(*texts, Text(_budgets(told["eps"])), f"{cell.n:,}", passes)
    console = stdout()
    console.print(table)
    for line in _summary(planned, left, directory):
        console.print(line, markup=False, soft_wrap=True)


def _budgets(written: list[str]) -> str:
    return " ".join(written) if len(written) <= 3 else f"{written[0]} … {written[-1]} ({len(written)})"


def _summary(planned: Plan, left: Estimate, directory: Path) -> list[str]:
    from assay.preflight.checks import steps_of

    whole = len(planned.units)
    if not left.units:
        return [f"{directory} holds all of it: nothing left to do."]
    done = f", {whole - left.units:,} of {plural(whole, 'chunk')} done" if left.units < whole else ""
    lines = [
        f"{plural(len(planned.cells), 'cell')}, {plural(left.records, 'record')} to make{done}",
        f"passes  at most {left.passes.forwards:,} forward and {left.passes.backwards:,} backward; "
        "samples that are broken early stop",
        f"disk    about {file_size(left.bytes)} of records in {directory}, and the pictures",
    ]
    if left.seconds is not None:
        lines.insert(
            1, f"time    at most about {rough_duration(left.seconds)} in one process, from timing {_TIMED} images"
        )
    return lines + [f"note    {note}" for note in [*planned.notes, *steps_of(planned.study)]]
