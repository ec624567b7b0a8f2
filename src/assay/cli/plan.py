"""`assay plan`: what a study will cost before it is run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.console.flags import AllowPickle, AllowRandomData, Batch, Device, StudyFlags
from assay.console.output import out as stdout
from assay.console.output import say, write
from assay.console.study_from_flags import read_study
from assay.console.usual_attack import with_usual_attack
from assay.core.errors import BadInput
from assay.wording import file_size, plural, queries, rough_duration

if TYPE_CHECKING:
    from assay.evaluation.cell import Cell
    from assay.evaluation.cost import Estimate, Looks, Speed
    from assay.evaluation.endpoints import Demand
    from assay.evaluation.loader import Loader
    from assay.evaluation.plan import Plan

_TIMED = 8
# one to open the connection, two more where it is tried in another form
_ASKED = _TIMED + 3


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
    from assay.evaluation.asked import budgets
    from assay.evaluation.cost import Speed, estimate
    from assay.evaluation.endpoints import demands
    from assay.evaluation.loader import Loader
    from assay.evaluation.plan import make_plan
    from assay.evaluation.records.store import Store
    from assay.models.remote.ledger import Ledger
    from assay.spending import spent_in

    loader = Loader(device, allow_pickle, batch, allow_random_data=allow_random_data)
    with Ledger().used() as ledger:
        asked = read_study(with_usual_attack(flags, loader), out)
        ledger.look_behind(asked.directory)
        planned = make_plan(asked.study, loader)
        done = Store(asked.directory).done(planned.cells)[0] if asked.directory.is_dir() else {}
        timed = _timed(planned, loader)
        for one in budgets(planned.models, ledger.spent()):
            say(f"The plan itself took {queries(one.spent.billed)} of {one.host}.")
    # an endpoint takes as long as its requests do, however many rows they hold
    requests = {name: one.forward for name, one in timed.here.items() if planned.models[name].get("endpoints")}
    asks = demands(planned.todo(done), planned.models, spent_in(asked.directory), requests)
    free = dict.fromkeys(requests, Speed(0, 0))
    left = estimate(planned, done, {**timed.here, **free}, timed.looks)
    left = dataclasses.replace(left, seconds=(left.seconds or 0) + sum(one.seconds or 0 for one in asks))
    # an endpoint does the work itself, whoever asks it
    alone = () if asks else estimate(planned, done, timed.alone, timed.looks).each
    if as_json:
        write(json.dumps(_plain(planned, left, asked.directory, asks, alone=alone, looks=timed.looks), indent=2))
    else:
        _print(planned, left, asked.directory, asks, alone=alone, looks=timed.looks)


@dataclasses.dataclass(frozen=True)
class _Timed:
    """By model: how long looks take here, and in a worker, which has one thread; and the passes of a look."""

    here: dict[str, Speed] = dataclasses.field(default_factory=dict)
    alone: dict[str, Speed] = dataclasses.field(default_factory=dict)
    looks: dict[str, Looks] = dataclasses.field(default_factory=dict)


def _timed(planned: Plan, loader: Loader) -> _Timed:
    """Time each model on a few of its images: seconds of a look at one, and of a request where an endpoint is asked."""
    import torch

    from assay.data import Sample
    from assay.evaluation.cost import Looks, time_passes, time_request

    found = _Timed()
    for cell in {cell.model.label: cell for cell in planned.cells}.values():
        asks = planned.models[cell.model.label].get("endpoints")
        say(f"Timing {cell.model.label} …" if not asks else f"Timing {cell.model.label}, at most {_ASKED} queries …")
        bench, data = loader.bench(cell), loader.samples(cell)
        samples = [one for one in data.load(range(min(_TIMED, len(data)))) if isinstance(one, Sample)]
        if not samples:
            raise BadInput(f"None of the first {_TIMED} images of {cell.data.source} can be read. Use other data.")
        images = torch.stack([sample.image for sample in samples]).to(bench.device)
        labels = [sample.label for sample in samples]
        label = cell.model.label
        found.looks[label] = Looks.of(bench.classifier)
        if asks:
            found.here[label] = time_request(bench.oracle, images, labels, min(_TIMED, asks[0]["batch"]))
            continue
        # the first round warms up: it would make small models look far slower than they are
        _, found.here[label] = (time_passes(bench.oracle, images, labels) for _ in range(2))
        threads = torch.get_num_threads()
        if threads == 1 or bench.device.type != "cpu":
            found.alone[label] = found.here[label]
            continue
        torch.set_num_threads(1)
        try:
            found.alone[label] = time_passes(bench.oracle, images, labels)
        finally:
            torch.set_num_threads(threads)
    loader.close()
    return found


def _plain(
    planned: Plan,
    left: Estimate,
    directory: Path,
    asks: list[Demand],
    *,
    alone: Sequence[float],
    looks: Mapping[str, Looks],
) -> dict[str, Any]:
    from assay.evaluation.cost import by_workers

    endpoints = [
        {
            "model": one.budget.model,
            "host": one.budget.host,
            "queries_left_at_most": one.rows,
            "requests_left_at_most": one.requests,
            "seconds_left_at_most": one.seconds,
            "cost_left_at_most": one.cost if one.budget.price else None,
            "currency": one.budget.currency or None,
            "queries_allowed": one.budget.queries,
            "queries_spent": one.budget.spent.billed,
        }
        for one in asks
    ]
    return {
        "study": planned.study.study,
        "directory": str(directory),
        "cells": [{"cell": cell.digest, **_told(cell, looks)} for cell in planned.cells],
        "units": len(planned.units),
        "units_left": left.units,
        "records_left": left.records,
        "forwards_left": left.passes.forwards,
        "backwards_left": left.passes.backwards,
        "seconds_left": left.seconds,
        "bytes_left": left.bytes,
        "longest_unit_seconds": max(alone, default=None),
        "workers": [{"workers": many, "seconds_left": seconds} for many, seconds in by_workers(alone).items()],
        **({"endpoints": endpoints} if asks else {}),
    }


def _told(cell: Cell, looks: Mapping[str, Looks]) -> dict[str, Any]:
    from assay.evaluation.cost import looks_per_sample, passes_of

    passes = passes_of(cell, looks_per_sample(cell, looks), looks)
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


def _print(
    planned: Plan,
    left: Estimate,
    directory: Path,
    asks: list[Demand],
    *,
    alone: Sequence[float],
    looks: Mapping[str, Looks],
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "data", "attack", "threat", "budgets", box=box.SIMPLE_HEAD)
    for title in ("samples", "passes each"):
        table.add_column(title, justify="right")
    for cell in planned.cells:
        told = _told(cell, looks)
        texts = [Text(str(told[name])) for name in ("model", "data", "attack", "threat")]
        passes = f"{told['forwards_per_sample']} + {told['backwards_per_sample']}"
        table.add_row(*texts, Text(_budgets(told["eps"])), f"{cell.n:,}", passes)
    console = stdout()
    console.print(table)
    for line in _summary(planned, left, directory, asks, alone=alone):
        console.print(line, markup=False, soft_wrap=True)


def _queries(one: Demand) -> str:
    """Say what an endpoint may be asked at most, and what is allowed of it."""
    parts = [f"{one.budget.model} is asked at most {queries(one.rows)}, in {plural(one.requests, 'request')}"]
    if one.seconds is not None:
        parts.append(rough_duration(one.seconds))
    if one.budget.price:
        parts.append(f"a price of {one.cost:.4g} {one.budget.currency}".rstrip())
    told = f"queries {', '.join(parts)}; what it has answered before is free"
    if one.budget.queries is None:
        return f"{told}. Nothing limits them: queries=N in the model's name does"
    return f"{told}. Spent: {one.budget.written}" + ("; the run may end before it is done" if one.too_much else "")


def _on_top(audit: str) -> str:
    """Say what a run asks endpoints besides its cells."""
    if audit == "off":
        return "queries the look before the run comes on top (at most 32; --no-doctor leaves it out)"
    return (
        f"queries the look before the run (at most 32) and the {audit} audit after it come on top; the audit may "
        "ask more than the run itself, and says how often before it begins (--audit off leaves it out)"
    )


def _budgets(written: list[str]) -> str:
    return " ".join(written) if len(written) <= 3 else f"{written[0]} … {written[-1]} ({len(written)})"


def _spread(alone: Sequence[float]) -> str:
    """Say how long it takes by numbers of workers."""
    from assay.evaluation.cost import by_workers

    times = "; ".join(f"{many}: {rough_duration(seconds)}" for many, seconds in by_workers(alone).items())
    return (
        f"workers {times} (each of one thread or device; the longest of {plural(len(alone), 'chunk')} takes "
        f"{rough_duration(max(alone))}, and starting a worker some seconds)"
    )


def _summary(
    planned: Plan, left: Estimate, directory: Path, asks: list[Demand], *, alone: Sequence[float]
) -> list[str]:
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
    if len(alone) > 1:
        lines.insert(2, _spread(alone))
    lines += [_queries(one) for one in asks]
    if asks:
        lines.append(_on_top(planned.study.audit))
    return lines + [f"note    {note}" for note in [*planned.notes, *steps_of(planned.study)]]
