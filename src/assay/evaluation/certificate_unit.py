"""The work on one unit of a certificate: a chunk of a cell's samples in, what is proved of them out."""

# shape: a file for each kind of work on a unit

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa

from assay.certification import Certificate, Certificates, make_certificate
from assay.data import Sample, Unreadable, image_digest
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.experiment import Experiment
from assay.evaluation.held_out import check_apart
from assay.evaluation.records.certificates import Asked, certificate_table


def certify(
    unit: Unit, experiment: Experiment, clock: Callable[[], float] = time.perf_counter
) -> tuple[pa.Table, Certificates | None]:
    """Return the records of a unit, and what was proved of its readable samples.

    Raises `BadInput` for a model, threat, image or label that the method cannot take.
    """
    began, cell = clock(), unit.cell
    data, bench = experiment.data, experiment.bench
    positions = cell.positions(unit.chunk)
    loaded = data.load(positions)
    readable = {at: one for at, one in enumerate(loaded) if isinstance(one, Sample)}
    digests = [image_digest(one.image) if isinstance(one, Sample) else None for one in loaded]
    errors = {at: one.error[:500] for at, one in enumerate(loaded) if isinstance(one, Unreadable)}
    asked = Asked([one.id for one in loaded], [one.label for one in loaded], digests, errors)
    check_apart(bench.classifier, {asked.ids[at]: digest for at, digest in enumerate(digests) if digest})
    method, proved = certificate_of(cell), None
    if readable:
        problem, draws = experiment.problem(
            list(readable.values()), [positions[at] for at in readable], bench.oracle, cell.seed
        )
        budgets = [budget.value for budget in cell.budgets]
        proved = method.prove(bench.classifier, problem, budgets, draws.fold("certificate"))
    return certificate_table(unit, asked, list(readable), proved, clock() - began, method.alpha), proved


def certificate_of(cell: Cell) -> Certificate:
    """Return the method of a cell that is a certificate."""
    assert cell.certificate is not None, "a cell that is attacked has none"
    return make_certificate(cell.certificate.certificate, cell.certificate.options)
