"""What a plan will cost: passes counted beforehand, and seconds from timing a few."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from assay.core.compose import Passes
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import ONE_PASS, Access, LookPasses, TorchOracle
from assay.core.tensors import take
from assay.evaluation.cell import Cell
from assay.evaluation.passes import passes_per_sample
from assay.evaluation.plan import Plan
from assay.models.remote.ledger import QueriesSpent
from assay.models.remote.place import asking, fresh

# measured on MNIST shards: bytes of a record in a compressed shard, and of what a shard has besides
_RECORD_BYTES, _SHARD_BYTES = 20, 8_000
_SIMULATED = 100_000


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is left of a plan: passes, records and bytes; `seconds` where looks were timed, and those of each unit."""

    units: int
    records: int
    passes: Passes
    bytes: int
    seconds: float | None = None
    each: tuple[float, ...] = ()


def estimate(
    plan: Plan,
    done: Mapping[str, set[int]] | None = None,
    speeds: Mapping[str, Speed] | None = None,
    looks: Mapping[str, LookPasses] | None = None,
) -> Estimate:
    """Return the cost of what is left of `plan`.

    `speeds` are by model label, from `time_passes`; `looks` the passes of a look where it takes more than one.
    """
    units = plan.todo(dict(done or {}))
    per_sample = {cell.digest: passes_per_sample(cell) for cell in plan.cells}
    costs = [per_sample[unit.cell.digest].times(len(unit.cell.positions(unit.chunk))) for unit in units]
    each: tuple[float, ...] = ()
    if speeds is not None:
        # what was timed are looks, whatever passes they take
        each = tuple(speeds[one.cell.model.label].seconds(cost) for one, cost in zip(units, costs, strict=True))
    passes = [passes_of(one.cell, cost, looks or {}) for one, cost in zip(units, costs, strict=True)]
    records = sum(unit.rows for unit in units)
    return Estimate(
        units=len(units),
        records=records,
        passes=Passes(sum(one.forwards for one in passes), sum(one.backwards for one in passes)),
        bytes=records * _RECORD_BYTES + len(units) * _SHARD_BYTES,
        seconds=None if speeds is None else sum(each),
        each=each,
    )


def passes_of(cell: Cell, looks: Passes, passes: Mapping[str, LookPasses]) -> Passes:
    """Return the passes of the innermost network that so many `looks` at a cell's model take, by its `LookPasses`.

    Looks are counted as `Passes` of a model that takes one each. Those of a surrogate are its own, and count once.
    """
    one = passes.get(cell.model.label, ONE_PASS)
    if one == ONE_PASS or cell.attack.options.get("surrogate"):
        return looks
    climbing = min(looks.forwards, looks.backwards)
    return Passes(
        (looks.forwards - climbing) * one.forwards + climbing * one.with_gradient,
        looks.backwards * one.backwards + looks.forwards * one.always,
    )


def by_workers(each: Sequence[float]) -> dict[int, float]:
    """Return how long units of so many seconds take by numbers of workers: 1, 2, 4, …, at most one for each.

    Units are handed out in their order, each to the first worker that is free, and none is divided: the longest bounds
    what more workers save, and where it is reached the list ends. Of very many units the bound is told, not the time.
    """
    found: dict[int, float] = {}
    longest, total, workers = max(each, default=0.0), sum(each), 1
    while workers <= len(each):
        found[workers] = _handed_out(each, workers) if len(each) <= _SIMULATED else total / workers + longest
        if found[workers] <= longest:
            break
        workers *= 2
    return found


def _handed_out(each: Sequence[float], workers: int) -> float:
    free = [0.0] * workers
    for seconds in each:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


@dataclasses.dataclass(frozen=True)
class Speed:
    """Seconds of a look at one sample, and what a look with a gradient takes more."""

    forward: float
    backward: float

    def seconds(self, passes: Passes) -> float:
        """Return how long some looks take, `passes.backwards` of them with a gradient."""
        return passes.forwards * self.forward + passes.backwards * self.backward


def time_request(oracle: TorchOracle, images: Tensor, labels: Sequence[int], rows: int) -> Speed:
    """Time one request for up to `rows` images, sent whether their answers are known or not, after one that warms up.

    `forward` is what the request took. It is 0 where no more may be asked.
    """
    goal = Untargeted(torch.tensor(list(labels), device=images.device))
    draws = Draws(torch.zeros(len(images), dtype=torch.int64, device=images.device))
    took = 0.0
    with fresh(), asking("timing"), contextlib.suppress(QueriesSpent):
        for count in (1, rows):
            began = time.perf_counter()
            at = torch.arange(min(count, len(images)), device=images.device)
            oracle.look(images[at], take(goal, at), cross_entropy, Access.SCORES, draws.take(at))
            took = time.perf_counter() - began
    return Speed(took, 0.0)


def time_passes(oracle: TorchOracle, images: Tensor, labels: Sequence[int]) -> Speed:
    """Time a model on some images `[N, C, H, W]` (after one pass to warm up).

    A model without gradients is asked for none: whatever is planned for it goes forward alone.
    """
    goal = Untargeted(torch.tensor(list(labels), device=images.device))
    draws = Draws(torch.zeros(len(images), dtype=torch.int64, device=images.device))
    spent = []
    both = oracle.gives is Access.GRADIENT
    for access in (Access.SCORES, Access.SCORES, *([Access.GRADIENT] if both else [])):
        began = time.perf_counter()
        oracle.look(images, goal, cross_entropy, access, draws).logits.cpu()
        spent.append((time.perf_counter() - began) / len(images))
    return Speed(spent[1], max(0.0, spent[2] - spent[1]) if both else 0.0)
