"""The work on one unit: a chunk of a cell's samples in, its records out. Nothing is written here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import pyarrow as pa
import torch
from torch import Tensor

from assay.core.answers import ONE_SCORE, sum_to_one
from assay.core.compose import Method, Transferred, for_norm, stages
from assay.core.draws import Draws
from assay.core.errors import BadInput, ModelError
from assay.core.goal import Goal, Untargeted, excluded, rank_of, scored
from assay.core.masks import Mask
from assay.core.norms import NORMS
from assay.core.objective import cross_entropy
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.core.sweep import Curve, Order, Question, first_look, sweep
from assay.core.tensors import take
from assay.core.threat import UNBOXED, Threat
from assay.data import Data, Sample, Unreadable, image_digest
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.loader import Bench
from assay.evaluation.one_score import check_one_score
from assay.evaluation.records.builder import Columns, blank
from assay.evaluation.records.gallery import PICTURED_CHUNKS, Picture, choose
from assay.evaluation.records.schema import BROKEN, STATUSES
from assay.evaluation.study.attacks import method_of
from assay.evaluation.study.goals import allowed_rank, make_goal, per_image
from assay.evaluation.study.masks import Chosen, mask_for


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a unit gave: its records, pictures where it is one of a cell's first chunks, and counts for progress."""

    table: pa.Table
    pictures: list[Picture]
    forwards: int
    backwards: int
    errors: int


@dataclasses.dataclass(frozen=True)
class Asked:
    """A problem that knows the `logits` of the images themselves; `at` are the samples' positions in the unit."""

    problem: Problem
    logits: Tensor
    draws: Draws
    at: Tensor


class Watch(Protocol):
    """Whoever wants to see the images of a unit, which its records do not hold."""

    def images(self, asked: Asked) -> None:
        """See every readable image, before any is attacked."""

    def attacked(self, asked: Asked, curve: Curve) -> None:
        """See what the attack made of the images of `asked`, budget by budget."""


class Unwatched:
    """Looks at nothing."""

    def images(self, asked: Asked) -> None:
        """See nothing."""

    def attacked(self, asked: Asked, curve: Curve) -> None:
        """See nothing."""


def do(
    unit: Unit,
    bench: Bench,
    data: Data,
    clock: Callable[[], float] = time.perf_counter,
    watch: Watch | None = None,
) -> Outcome:
    """Attack a chunk of samples at every budget of its cell and return one record per sample and budget.

    The model is asked once about the images as they are: that answer is the clean prediction, and the attack's
    first look where it begins there. Unreadable images and answers that are no numbers become error records. Raises
    `BadInput` for images or labels that the model cannot take, `ModelError` for a model that is no classifier.
    """
    began = clock()
    loaded = data.load(unit.cell.positions(unit.chunk))
    readable = {at: one for at, one in enumerate(loaded) if isinstance(one, Sample)}
    method = _method(unit.cell, bench, readable)
    columns = blank(unit, [one.id for one in loaded], [one.label for one in loaded], stages(method))
    if per_image(unit.cell.goal) and data.targets is not None:
        columns.samples["target"][:] = [data.targets[at] for at in unit.cell.positions(unit.chunk)]
    for at, one in enumerate(loaded):
        if isinstance(one, Unreadable):
            columns.fail(at, one.error)
        else:
            columns.digests[at] = image_digest(one.image)
    bench.oracle.told.clear()
    pictures = _attack(columns, bench, method, readable, watch or Unwatched()) if readable else []
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


def _method(cell: Cell, bench: Bench, readable: dict[int, Sample]) -> Method:
    height, width = next(iter(readable.values())).image.shape[1:] if readable else cell.image
    return method_for(cell, bench, (height, width))


def method_for(cell: Cell, bench: Bench, image: tuple[int, int]) -> Method:
    """Return a cell's attack for images of `image` (height, width) pixels, made on its surrogate where it has one."""
    method = for_norm(method_of(cell.attack.attack, cell.attack.options, image), cell.threat.norm)
    surrogate = cell.attack.options.get("surrogate")
    return Transferred(method, bench.surrogates[surrogate]) if surrogate else method


def _attack(columns: Columns, bench: Bench, method: Method, readable: dict[int, Sample], watch: Watch) -> list[Picture]:
    cell = columns.unit.cell
    asked = _ask(columns, bench, method, readable)
    watch.images(asked)
    logits, goal = asked.logits, asked.problem.goal
    right = rank_of(logits, goal.y) <= allowed_rank(cell.goal)
    attacked = _sane(columns, asked.at, logits) & (right | (cell.question == Question.AS_ATTACKED.value))
    attacked &= ~excluded(goal)
    if not bool(attacked.any()):
        return []
    if not bool(attacked.all()):
        asked, right = take(asked, attacked), right[attacked]
    # until a search says more, a sample that the model gets wrong is just that
    columns.rows["status"][:, asked.at[right].cpu().numpy()] = STATUSES.index(BROKEN)
    budgets = [budget.value for budget in cell.budgets]
    question, order = Question(cell.question), Order(cell.order)
    curve = sweep(method, asked.problem, asked.draws, budgets, question, order=order)
    columns.tell(asked.at, asked.problem, curve)
    watch.attacked(asked, curve)
    if columns.unit.chunk >= PICTURED_CHUNKS:
        return []
    return choose(columns, asked.at, asked.logits, asked.problem, curve)


def _ask(columns: Columns, bench: Bench, method: Method, readable: dict[int, Sample]) -> Asked:
    """Ask the model about the images themselves, and book it."""
    cell, ids = columns.unit.cell, [sample.id for sample in readable.values()]
    images = stacked(list(readable.values()), bench.classifier.input_shape)
    positions = [cell.positions(columns.unit.chunk)[at] for at in readable]
    mask = mask_for(cell.threat, Chosen(ids, positions, tuple(images.shape[1:])), bench.masks)
    threat = threat_of(cell, mask).in_units_of(bench.classifier.std)
    x = threat.on_grid(images.to(bench.device))
    y = torch.tensor([sample.label for sample in readable.values()], device=bench.device)
    check_labels(y, ids, bench.classes(x[:1]))
    draws = Draws.of(ids, cell.seed)
    draws = dataclasses.replace(draws, ids=draws.ids.to(bench.device))
    at = torch.tensor(list(readable), device=bench.device)
    problem = Problem(bench.oracle, x, Untargeted(y), threat)
    problem = dataclasses.replace(problem, goal=_goal(columns, bench, problem, draws, at))
    known = first_look(method, problem, draws)
    check_scores(known.seen.logits, cell.model.outputs, bench.classifier.access)
    check_one_score(bench.oracle, x, known.seen.logits, cell.model.outputs)
    columns.look(at, known.seen.logits, problem.goal)
    columns.bill(at, known.seen.cost)
    return Asked(dataclasses.replace(problem, known=known), known.seen.logits, draws, at)


def _goal(columns: Columns, bench: Bench, problem: Problem, draws: Draws, at: Tensor) -> Goal:
    cell, y = columns.unit.cell, problem.goal.y
    k = bench.classes(problem.x[:1])
    if cell.goal != "targeted least-likely":
        logits, targets = (
            y.new_zeros(len(y), k, dtype=torch.float32),
            torch.from_numpy(columns.samples["target"]).to(at),
        )
        return make_goal(cell.goal, y, logits, draws, bench.classifier.classes, targets[at])
    # only this goal depends on the answer, so it costs a look of its own
    seen = bench.oracle.look(problem.x, problem.goal, cross_entropy, Access.SCORES, draws)
    columns.bill(at, seen.cost)
    return make_goal(cell.goal, y, seen.logits, draws, bench.classifier.classes)


def _sane(columns: Columns, at: Tensor, logits: Tensor) -> Tensor:
    sane = scored(logits)
    for row in at[~sane].tolist():
        columns.fail(row, "The model returned NaN or infinite scores for the image itself.")
    return sane


def threat_of(cell: Cell, mask: Mask | None = None) -> Threat:
    """Return the cell's threat at its largest budget, in a mask if there is one."""
    box = (0.0, 1.0) if cell.threat.box else UNBOXED
    return Threat(NORMS[cell.threat.norm], box=box, grid=cell.threat.grid, mask=mask).at(cell.budgets[-1])


def stacked(samples: Sequence[Sample], expected: tuple[int, int, int] | None) -> Tensor:
    """Return the images as `[N, C, H, W]`. Raises `BadInput` where one has another size than the model or the rest."""
    shape = expected or tuple(samples[0].image.shape)
    for sample in samples:
        if tuple(sample.image.shape) != shape:
            whose = "the model expects" if expected else f"{samples[0].id!r} is"
            raise BadInput(
                f"The image {sample.id!r} is {_size(sample.image.shape)}, {whose} {_size(shape)}. Load the data with "
                "the model's own preprocessing, or choose data of that size."
            )
    return torch.stack([sample.image for sample in samples])


def check_labels(y: Tensor, ids: Sequence[str], classes: int) -> None:
    """Raise `BadInput` for a label that the model has no class for."""
    wrong = (y < 0) | (y >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise BadInput(
            f"The sample {ids[row]!r} has label {int(y[row])}, but the model has {classes} classes, 0 to "
            f"{classes - 1}. Choose data whose labels are the model's classes."
        )


def check_scores(logits: Tensor, outputs: str, access: Access = Access.GRADIENT) -> None:
    """Raise `BadInput` where every row of `logits` `[N, K]` is a list of probabilities.

    A model that gives labels alone answers with 1 for its class and 0 for the others, and is never refused.
    """
    if access is Access.LABELS:
        return
    if outputs == "logits" and bool(sum_to_one(logits).all()):
        raise BadInput(
            "The model returns probabilities (each row sums to 1). Gradients of a saturated softmax vanish and attacks "
            "look weaker than they are. Return logits, or pass --outputs probabilities (outputs: probabilities in a "
            'study, load_model(model, outputs="probabilities") in Python) to attack log-probabilities; the report will '
            "say so."
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


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
