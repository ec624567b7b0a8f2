"""Whether a bound goes before an attack: always, never, or where what it saves is worth its passes."""

from __future__ import annotations

import dataclasses

from assay.certification import Certificate, certificate_entry, make_certificate
from assay.certification.bounds.methods import hidden_values
from assay.core.errors import AssayError, BadInput
from assay.core.oracle import Access
from assay.data import Sample
from assay.evaluation.cell import Cell
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.passes import passes_per_sample
from assay.evaluation.study.attacks import entry_of
from assay.evaluation.study.certify import AUTO, FIRST
from assay.models import Classifier
from assay.vocabulary import UNATTACKED, Question

BOUND = "crown"
PILOT = 8
LEAST = 200
"""`auto` asks a bound about the first 8 images, where an attack takes 200 passes or more for an image: below that no
bound would pay."""

LARGEST = 20_000
"""Nor does `auto` ask about networks with more hidden values: each may take a pass of its own, and a pilot would take
longer than many attacks."""


def bounded_first(cell: Cell, when: str, model: Classifier, loader: Loader) -> Cell:
    """Return the cell of an attack with the bound that its images meet first, where there is to be one.

    `when` is "first", "auto" or "off". Raises `BadInput` where it is "first" and no bound speaks of the model, the
    threat or the question.
    """
    if when not in (AUTO, FIRST) or cell.attack.attack == UNATTACKED:
        return cell
    why = _why_not(cell, model)
    if why and when == FIRST:
        raise BadInput(f"{cell.attack.label} on {cell.model.label}: {why} Write certify: off, or leave it out.")
    if why or (when == AUTO and _passes(cell) < LEAST):
        return cell
    first = dataclasses.replace(cell, before=f"{BOUND} {certificate_entry(BOUND).version}")
    if when == AUTO:
        return first if _pays(first, loader) else cell
    _check(first, make_certificate(BOUND, {}), loader)
    return first


def check_certificate(cell: Cell, loader: Loader) -> None:
    """Raise `BadInput` where the certificate of a cell does not speak of its model or threat."""
    assert cell.certificate is not None, "a cell that is attacked has none"
    name, norm = cell.certificate.certificate, cell.threat.norm
    norms = certificate_entry(name).norms
    if norm not in norms:
        raise BadInput(f"The certificate {name} speaks of {', '.join(norms)}, not of {norm}.")
    _check(cell, make_certificate(name, cell.certificate.options), loader)


def _check(cell: Cell, method: Certificate, loader: Loader) -> None:
    experiment = Experiment.of(cell, loader)
    samples = [one for one in experiment.data.load(range(min(1, cell.n))) if isinstance(one, Sample)]
    if samples:
        problem, _ = experiment.problem(samples, range(len(samples)), experiment.bench.oracle, cell.seed)
        method.check(experiment.bench.classifier, problem)


def _why_not(cell: Cell, model: Classifier) -> str:
    threat = cell.threat
    if cell.question != Question.WORST_CASE.value or cell.goal != "untargeted":
        return "a bound proves that nothing changes the answer, so it goes before untargeted worst cases alone."
    if cell.attack.options.get("surrogate") or entry_of(cell.attack.attack).file:
        return "images made elsewhere cost one pass each, less than any bound."
    if threat.norm not in certificate_entry(BOUND).norms:
        return f"{BOUND} speaks of {', '.join(certificate_entry(BOUND).norms)}."
    if model.access is not Access.GRADIENT or model.random or model.defenses or model.rejects:
        return f"{BOUND} speaks of plain networks of torch, and {model.spec} draws numbers, refuses or is no such one."
    return ""


def _pays(cell: Cell, loader: Loader) -> bool:
    # on the first images that can be read: as many passes as the attack would have taken on what is proved
    experiment = Experiment.of(cell, loader)
    samples = [one for one in experiment.data.load(range(min(PILOT, cell.n))) if isinstance(one, Sample)]
    if not samples:
        return False
    bound = make_certificate(BOUND, {})
    try:
        problem, draws = experiment.problem(samples, range(len(samples)), experiment.bench.oracle, cell.seed)
        bound.check(experiment.bench.classifier, problem)
        if hidden_values(experiment.bench.classifier, problem.x[:2]) > LARGEST:
            return False
        budgets = [budget.value for budget in cell.budgets]
        proved = bound.prove(experiment.bench.classifier, problem, budgets, draws.fold("certificate"))
    except AssayError:
        return False
    spent = float((proved.cost.forwards + proved.cost.backwards).double().mean())
    return float(proved.certified.double().mean()) * _passes(cell) > spent


def _passes(cell: Cell) -> int:
    most = passes_per_sample(cell)
    return most.forwards + most.backwards
