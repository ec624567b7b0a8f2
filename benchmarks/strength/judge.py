"""Figures of a contender, and whether ours is weaker than the best reference."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.strength.board import BUDGET, DISTANCE, MINIMUM, QUERIES, TRANSFER, Row

MEDIAN = 1.005
# random searches stray by about this much in the mean over 50 images
QUERIES_MEAN = 1.05
# standard errors of a difference that are no difference
CHANCE = 2.0


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a contender reached. `robust` counts survivors among all images; the rest among those attacked.

    `median` is a distance (failures infinite, mistakes of the model 0); `mean` and `middle` are queries, where a
    failure counts as all it could spend. `error` is the standard error of `robust` over `seeds` runs.
    """

    robust: float
    success: float
    median: float
    mean: float = math.nan
    middle: float = math.nan
    forwards: float = math.nan
    backwards: float = math.nan
    seeds: int = 1
    error: float = 0.0

    @property
    def passes(self) -> float:
        """Forwards and backwards per attacked image."""
        return self.forwards + self.backwards

    def plain(self) -> dict[str, float | None]:
        """Return the figures as JSON has them: no infinity, no NaN."""
        values = dataclasses.asdict(self)
        return {name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Figures:
        """Undo `plain`: a median that is not there is infinite."""
        names = [field.name for field in dataclasses.fields(cls)]
        missing = {"median": math.inf}
        # a figure that came later is not in results from before
        known = [name for name in names if name in plain]
        return cls(**{n: missing.get(n, math.nan) if plain[n] is None else plain[n] for n in known})

    @classmethod
    def of(cls, row: Row, result: Mapping[str, Any]) -> Figures:
        """Return the figures of a measured result."""
        mistakes, images = result["mistakes"], result["images"]
        sizes = [math.inf if size is None else size for size in result["sizes"]]
        if row.kind == QUERIES:
            spent = [row.limit if one is None else one for one in result["queries"]]
            broken = sum(one is not None for one in result["queries"])
            mean, middle = (statistics.fmean(spent), statistics.median(spent)) if spent else (math.nan, math.nan)
        else:
            broken, mean, middle = sum(size < math.inf for size in sizes), math.nan, math.nan
        robust = (images - mistakes - broken) / images
        success = broken / max(1, images - mistakes)
        median = statistics.median([0.0] * mistakes + sizes)
        return cls(robust, success, median, mean, middle, result["forwards"], result["backwards"])

    @classmethod
    def mean_of(cls, runs: Sequence[Figures]) -> Figures:
        """Return the means over runs under different seeds."""
        if len(runs) == 1:
            return runs[0]
        names = [field.name for field in dataclasses.fields(cls)]
        means = {name: statistics.fmean(getattr(one, name) for one in runs) for name in names}
        error = statistics.stdev(one.robust for one in runs) / math.sqrt(len(runs))
        return cls(**{**means, "seeds": len(runs), "error": error})

    def written(self, row: Row) -> str:
        """Return what the table shows."""
        if row.kind in (BUDGET, TRANSFER):
            over = f" ({self.seeds} seeds, standard error {self.error:.3f})" if self.seeds > 1 else ""
            return f"{self.robust:.3f} survive{over}"
        if row.kind == QUERIES:
            return f"{self.success:.0%}, mean {self.mean:.0f}, median {self.middle:.0f} queries"
        return f"{self.success:.0%}, median {self.median:.4g}"


def weaker(row: Row, ours: Figures, peers: Mapping[str, Figures]) -> str:
    """Say how ours is weaker than the best reference, or return an empty text."""
    if not peers:
        return ""
    if row.kind in (BUDGET, TRANSFER):
        return _weaker_budget(row, ours, peers)
    most = max(one.success for one in peers.values())
    if ours.success < most - 1e-9:
        return f"success {ours.success:.0%} against {most:.0%}"
    if row.kind in (MINIMUM, DISTANCE):
        best = min(one.median for one in peers.values())
        if ours.median > MEDIAN * best:
            return f"median {ours.median:.4g} against {best:.4g} ({ours.median / best:.3f})"
        return ""
    best = min(one.mean for one in peers.values())
    return f"mean of {ours.mean:.0f} queries against {best:.0f}" if ours.mean > QUERIES_MEAN * best else ""


def _weaker_budget(row: Row, ours: Figures, peers: Mapping[str, Figures]) -> str:
    strongest = min(peers.values(), key=lambda one: one.robust)
    chance = CHANCE * math.hypot(ours.error, strongest.error)
    if ours.robust > strongest.robust + row.allowance / row.images + chance + 1e-9:
        return f"{ours.robust:.3f} survive against {strongest.robust:.3f}"
    if row.share is not None and ours.passes > row.share * strongest.passes:
        return f"{ours.passes / strongest.passes:.3f} of the passes, at most {row.share:.3f} are wanted"
    return ""
