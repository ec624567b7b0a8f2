"""The answers of a model as an attack gets them: seen by who watches, with nothing asked for besides."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import torch

from assay.core.draws import Draws
from assay.core.goal import Goal
from assay.core.objective import Objective
from assay.core.oracle import Access, Observation, TorchOracle
from assay.core.tensors import take
from assay.models import Classifier

Seen = Callable[[Observation], None]


@dataclasses.dataclass(frozen=True)
class WatchedOracle(TorchOracle):
    """The oracle as it is; `seen` is told of every look that it has answered."""

    seen: Seen | None = dataclasses.field(default=None, compare=False, repr=False)

    def look(self, points: torch.Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask the model, and tell."""
        found = super().look(points, goal, objective, access, draws)
        if self.seen is not None:
            self.seen(found)
        return found


@dataclasses.dataclass(frozen=True)
class Watched(Classifier):
    """A classifier whose oracle tells `seen` of every look."""

    seen: Seen | None = dataclasses.field(default=None, compare=False, repr=False)

    def oracle(self, batch: int | None = None) -> TorchOracle:
        """Return the oracle of a classifier, watched."""
        plain = super().oracle(batch)
        fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        return WatchedOracle(**fields, seen=self.seen)


def watched(model: Classifier, seen: Seen) -> Watched:
    """Return a classifier, watched."""
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return Watched(**fields, seen=seen)


class Stopped(Exception):
    """The visitor has left or pressed stop."""


class OverLimit(Exception):
    """The attack has spent the passes that it may."""


_ALL_OF = 200
_PERIOD = 1 / 30


class Curve:
    """The margin pass by pass, told in bursts: `tell` gets lists of points.

    The first look is the one about the image itself that `assay.attack` and `assay.sweep` begin with and bill to
    nobody: it is `clean`, and no point. All of the first `_ALL_OF` points are told, later ones at most 30 a second. A
    look at several copies or probes of the image is one point, with the mean of their margins. `stopped()` is asked
    after each look, and `passes` may be spent forward.
    """

    def __init__(
        self, goal: Goal, tell: Callable[[list[dict[str, Any]]], None], stopped: Callable[[], bool], passes: int
    ) -> None:
        self._goal, self._tell, self._stopped, self._most = goal, tell, stopped, passes
        self._waiting: list[dict[str, Any]] = []
        self._latest: dict[str, Any] | None = None
        self._sent_at = -math.inf
        self._count = 0
        self.clean: Observation | None = None
        self.forwards = self.backwards = 0
        self.crossed = False

    def __call__(self, seen: Observation) -> None:
        """Take one look in; raises `Stopped` and `OverLimit`."""
        if self._stopped():
            raise Stopped
        if self.clean is None:
            self.clean = seen
            return
        self.forwards += int(seen.cost.forwards.sum())
        self.backwards += int(seen.cost.backwards.sum())
        point = self._point(seen)
        if point is not None:
            self._add(point)
        if self.forwards + self.backwards > self._most:
            self.flush()
            raise OverLimit

    def flush(self) -> None:
        """Tell what waits."""
        points = [*self._waiting, *([self._latest] if self._latest else [])]
        if points:
            self._tell(points)
        self._waiting, self._latest = [], None
        self._sent_at = time.monotonic()

    def _point(self, seen: Observation) -> dict[str, Any] | None:
        copies = torch.zeros(len(seen.logits), dtype=torch.int64, device=seen.logits.device)
        margin = -float(take(self._goal, copies).gap(seen.logits).mean())
        if not math.isfinite(margin):
            return None
        self.crossed |= margin < 0
        point = {"pass": self.forwards, "margin": margin}
        objective = float(seen.loss.mean()) if seen.loss.ndim == 1 else math.nan
        return {**point, "objective": objective} if math.isfinite(objective) else point

    def _add(self, point: dict[str, Any]) -> None:
        self._count += 1
        if self._count <= _ALL_OF:
            self._waiting.append(point)
        else:
            self._latest = point
        if time.monotonic() - self._sent_at >= _PERIOD:
            self.flush()
