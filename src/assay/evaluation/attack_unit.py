"""The work on one unit: a chunk of a cell's samples in, its records out. Nothing is written here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import pyarrow as pa
import torch
from torch import Tensor

from assay.certification import make_certificate
from assay.core.answers import ONE_SCORE, sum_to_hundred, sum_to_one
from assay.core.compose import Method, confirmed, confirmed_look, stages
from assay.core.draws import Draws
from assay.core.errors import BadInput, ModelError
from assay.core.goal import excluded, rank_of, scored
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.problem import CachedLook, Problem
from assay.core.signals import apart
from assay.core.sweep import Curve, first_look, placed, sweep, untouched
from assay.core.tensors import take
from assay.data import Sample, Unreadable, image_digest
from assay.evaluation.cell import Unit
from assay.evaluation.experiment import Experiment
from assay.evaluation.held_out import check_apart
from assay.evaluation.loader import Bench
from assay.evaluation.one_score import check_one_score
from assay.evaluation.records.builder import Columns, blank
from assay.evaluation.records.gallery import PICTURED_CHUNKS, Picture
from assay.evaluation.records.pictured import choose
from assay.evaluation.records.schema import BROKEN, STATUSES
from assay.evaluation.study.goal_words import allowed_rank, per_image
from assay.vocabulary import UNATTACKED, Order, Question


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a unit gave: its records, pictures where it is one of a cell's first chunks, and counts for progress."""

    table: pa.Table
    pictures: list[Picture]
    forwards: int
    backwards: int
    errors: int


@dataclasses.dataclass(frozen=True)
class CleanLook:
    """A problem that knows the `logits` of the images themselves; `at` are the samples' positions in the unit."""

    problem: Problem
    logits: Tensor
    draws: Draws
    at: Tensor


class Watch(Protocol):
    """Whoever wants to see the images of a unit, which its records do not hold."""

    def images(self, asked: CleanLook) -> None:
        """See every readable image, before any is attacked."""

    def attacked(self, asked: CleanLook, curve: Curve) -> None:
        """See what the attack made of the images of `asked`, budget by budget."""


class Unwatched:
    """Looks at nothing."""

    def images(self, asked: CleanLook) -> None:
        """See nothing."""

    def attacked(self, asked: CleanLook, curve: Curve) -> None:
        """See nothing."""


def do(
    unit: Unit,
    experiment: Experiment,
    clock: Callable[[], float] = time.perf_counter,
    watch: Watch | None = None,
) -> Outcome:
    """Attack a chunk of samples at every budget of its cell and return one record per sample and budget.

    The model is asked once about the images as they are: that answer is the clean prediction, and the attack's
    first look where it begins there. Unreadable images and answers that are no numbers become error records. Raises
    `BadInput` for images or labels that the model cannot take, `ModelError` for a model that is no classifier.
    """
    began = clock()
    bench, data = experiment.bench, experiment.data
    loaded = data.load(unit.cell.positions(unit.chunk))
    readable = {at: one for at, one in enumerate(loaded) if isinstance(one, Sample)}
    method = experiment.method(next((one.image.shape[1:] for one in readable.values()), None))
    method = confirmed(method) if bench.classifier.random else method
    ids, rejects = [one.id for one in loaded], bench.classifier.rejects
    columns = blank(unit, ids, [one.label for one in loaded], stages(method), rejects=rejects)
    if per_image(unit.cell.goal) and data.targets is not None:
        columns.samples["target"][:] = [data.targets[at] for at in unit.cell.positions(unit.chunk)]
    for at, one in enumerate(loaded):
        if isinstance(one, Unreadable):
            columns.fail(at, one.error)
        else:
            columns.digests[at] = image_digest(one.image)
    check_apart(bench.classifier, {ids[at]: digest for at, digest in columns.digests.items()})
    bench.oracle.told.clear()
    pictures = _attack(columns, experiment, method, readable, watch or Unwatched()) if readable else []
    columns.told.update(_told(bench, readable))
    columns.rows["seconds"][:] = (clock() - began) / unit.rows
    forwards, backwards = (int(columns.rows[name].sum()) for name in ("forwards", "backwards"))
    return Outcome(columns.table(), pictures, forwards, backwards, len({at for _, at in columns.errors}))


def _told(bench: Bench, readable: dict[int, Sample]) -> dict[str, str]:
    # how the model was asked, for the record
    if not readable:
        return {}
    image = next(iter(readable.values())).image[None].to(bench.device)
    told = bench.oracle.told
    form = "; ".join([bench.oracle.form(image).written, *(told & {ONE_SCORE})])
    edges = ", ".join(sorted(told - {ONE_SCORE}))
    return {"form": form, **({"edges": edges} if edges else {})}


def _attack(
    columns: Columns, experiment: Experiment, method: Method, readable: dict[int, Sample], watch: Watch
) -> list[Picture]:
    cell = experiment.cell
    asked = _ask(columns, experiment, method, readable)
    watch.images(asked)
    logits, goal = asked.logits, asked.problem.goal
    right = _right(logits, goal.y, columns)
    attacked = _sane(columns, asked.at, logits) & (right | (cell.question == Question.AS_ATTACKED.value))
    attacked &= ~excluded(goal)
    if not bool(attacked.any()):
        return []
    if not bool(attacked.all()):
        asked, right = take(asked, attacked), right[attacked]
    # until a search says more, a sample that the model gets wrong is just that
    columns.rows["status"][:, asked.at[right].cpu().numpy()] = STATUSES.index(BROKEN)
    if cell.before:
        curve = certify_first(columns, experiment, method, asked)
    else:
        budgets = [budget.value for budget in cell.budgets]
        question, order = Question(cell.question), Order(cell.order)
        curve = sweep(method, asked.problem, asked.draws, budgets, question, order=order)
        columns.tell(asked.at, asked.problem, curve)
    watch.attacked(asked, curve)
    # of what was not attacked there is nothing to compare
    if columns.unit.chunk >= PICTURED_CHUNKS or cell.attack.attack == UNATTACKED:
        return []
    return choose(columns, asked.at, asked.logits, asked.problem, curve)


def certify_first(columns: Columns, experiment: Experiment, method: Method, asked: CleanLook) -> Curve:
    """Attack the images of `asked` at the budgets at which the cell's bound proves nothing of them, and fill it in.

    The bound is asked about those that the model gets right; what it proves needs no attack.
    """
    cell, bench = experiment.cell, experiment.bench
    budgets = [budget.value for budget in cell.budgets]
    bound = make_certificate(cell.before.split()[0], {})
    proved = bound.prove(bench.classifier, asked.problem, budgets, asked.draws.fold("certificate"))
    columns.bill(asked.at, proved.cost)
    question, order = Question(cell.question), Order(cell.order)
    # proofs are for budgets from the smallest on: what is left begins at the first that is open
    first_open = proved.certified.long().cumprod(0).sum(0)
    curve = untouched(asked.problem, budgets)
    for start in sorted(set(first_open.tolist())):
        at = (first_open == start).nonzero().squeeze(1)
        if start < len(budgets):
            own = take(asked, at)
            part = sweep(method, own.problem, own.draws, budgets[start:], question, order=order)
            curve = placed(curve, at, part, start)
    columns.tell(asked.at, asked.problem, curve)
    columns.certify(asked.at, first_open)
    return curve


def _ask(columns: Columns, experiment: Experiment, method: Method, readable: dict[int, Sample]) -> CleanLook:
    """Ask the model about the images themselves, and book it."""
    cell, bench = experiment.cell, experiment.bench
    positions = [cell.positions(columns.unit.chunk)[at] for at in readable]
    problem, draws = experiment.problem(list(readable.values()), positions, bench.oracle, cell.seed)
    at = torch.tensor(list(readable), device=bench.device)
    targets = torch.from_numpy(columns.samples["target"]).to(at)[at]
    goal, cost = experiment.goal(problem, draws, targets)
    if cost is not None:
        columns.bill(at, cost)
    problem = dataclasses.replace(problem, goal=goal)
    if bench.classifier.random:
        # asked as often as an adversarial image is
        known = CachedLook(problem.x, margin, confirmed_look(problem, problem.x, draws.fold("clean")))
    else:
        known = first_look(method, problem, draws)
    check_scores(apart(known.seen.logits, columns.rejects).logits, cell.model.outputs, bench.classifier.access)
    check_one_score(bench.oracle, problem.x, known.seen.logits, cell.model.outputs)
    columns.look(at, known.seen.logits, goal)
    columns.bill(at, known.seen.cost)
    return CleanLook(dataclasses.replace(problem, known=known), known.seen.logits, draws, at)


def _right(logits: Tensor, y: Tensor, columns: Columns) -> Tensor:
    seen = apart(logits, columns.rejects)
    right = rank_of(seen.logits, y) <= allowed_rank(columns.unit.cell.goal)
    return right if seen.excess is None else right & (seen.excess <= 0)


def _sane(columns: Columns, at: Tensor, logits: Tensor) -> Tensor:
    sane = scored(logits)
    for row in at[~sane].tolist():
        columns.fail(row, "The model returned NaN or infinite scores for the image itself.")
    return sane


def check_scores(logits: Tensor, outputs: str, access: Access = Access.GRADIENT) -> None:
    """Raise `BadInput` where every row of `logits` `[N, K]` is a list of probabilities, or of percentages.

    A model that gives labels alone answers with 1 for its class and 0 for the others, and is never refused.
    """
    if access is Access.LABELS:
        return
    what = "probabilities (each row sums to 1)" if bool(sum_to_one(logits).all()) else ""
    what = what or ("percentages (each row sums to 100)" if bool(sum_to_hundred(logits).all()) else "")
    if outputs == "logits" and what:
        raise BadInput(
            f"The model returns {what}. Gradients of a saturated softmax vanish and attacks "
            "look weaker than they are. Return logits, or pass --outputs probabilities (outputs: probabilities in a "
            'study, load_model(model, outputs="probabilities") in Python) to attack log-probabilities; the report will '
            "say so. Of a judge: --judge-outputs probabilities."
        )


def check_numbers(logits: Tensor, ids: Sequence[str], model: str) -> None:
    """Raise `ModelError` naming the first image whose scores `[N, K]` are NaN or infinite."""
    sane = scored(logits)
    if not bool(sane.all()):
        row = int((~sane).nonzero()[0])
        raise ModelError(
            f"The model {model} returned NaN or infinite scores for the image {ids[row]!r}, expected finite logits. "
            "Look for a division by zero, the logarithm of 0, or an overflow."
        )
