"""What a plan will cost: passes counted beforehand, and seconds from timing a few."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from assay.core.compose import Passes
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import Access, TorchOracle
from assay.core.tensors import take
from assay.evaluation.passes import passes_per_sample
from assay.evaluation.plan import Plan
from assay.models.remote.ledger import QueriesSpent
from assay.models.remote.place import asking, fresh

# measured on MNIST shards: bytes of a record in a compressed shard, and of what a shard has besides
_RECORD_BYTES, _SHARD_BYTES = 20, 8_000


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is left of a plan: passes, records and bytes; `seconds` where passes were timed."""

    units: int
    records: int
    passes: Passes
    bytes: int
    seconds: float | None = None


def estimate(plan: Plan, done: dict[str, set[int]] | None = None, speeds: dict[str, Speed] | None = None) -> Estimate:
    """Return the cost of what is left of `plan`; `speeds` are by model label, from `time_passes`."""
    units = plan.todo(done or {})
    each = {cell.digest: passes_per_sample(cell) for cell in plan.cells}
    costs = [(unit, each[unit.cell.digest].times(len(unit.cell.positions(unit.chunk)))) for unit in units]
    seconds = None
    if speeds is not None:
        seconds = sum(speeds[unit.cell.model.label].seconds(cost) for unit, cost in costs)
    records = sum(unit.rows for unit in units)
    return Estimate(
        units=len(units),
        records=records,
        passes=Passes(sum(cost.forwards for _, cost in costs), sum(cost.backwards for _, cost in costs)),
        bytes=records * _RECORD_BYTES + len(units) * _SHARD_BYTES,
        seconds=seconds,
    )


@dataclasses.dataclass(frozen=True)
class Speed:
    """Seconds of a forward pass and of a backward pass, per sample."""

    forward: float
    backward: float

    def seconds(self, passes: Passes) -> float:
        """Return how long some passes take."""
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
