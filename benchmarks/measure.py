"""Interleaved repeats, medians and ratios: what a benchmark returns."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender: its median, the spread of its repeats, and what it found out."""

    name: str
    median: float
    low: float
    high: float
    found: str = ""


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A comparison of two medians (or of two results) with its target ("" for none); `holds` says whether it is met."""

    what: str
    value: float
    target: str
    holds: bool


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of one benchmark: what was run, in which unit, by whom, and how they compare."""

    name: str
    what: str
    unit: str
    rows: list[Row]
    ratios: list[Ratio]


@dataclasses.dataclass(frozen=True)
class Timed:
    """Seconds of every repeat of one contender, and what each repeat returned."""

    seconds: tuple[float, ...]
    results: tuple[Any, ...] = ()

    @property
    def median(self) -> float:
        """The median of the repeats, in seconds."""
        return statistics.median(self.seconds)

    @property
    def accuracies(self) -> list[float]:
        """The mean over the repeats, for contenders that return accuracies."""
        return [statistics.fmean(values) for values in zip(*self.results, strict=True)]

    def row(self, name: str, items: float = 1, found: str = "") -> Row:
        """Return the contender's row of the table, per item."""
        return Row(name, self.median / items, min(self.seconds) / items, max(self.seconds) / items, found)


def interleaved(contenders: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timed]:
    """Run every contender `repeats` times, one round after the other, and say so on standard error.

    Rounds are interleaved, and every other one runs backwards, so that a machine that slows down slows all of them.
    Round 0 warms up threads, caches and memory, and does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, list[Any]] = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        order = list(contenders)
        for name in order if repeat % 2 else reversed(order):
            began = time.perf_counter()
            result = contenders[name]()
            took = time.perf_counter() - began
            print(f"  {repeat}/{repeats} {name}: {took:.2f} s", file=sys.stderr, flush=True)
            if repeat:
                seconds[name].append(took)
                results[name].append(result)
    return {name: Timed(tuple(seconds[name]), tuple(results[name])) for name in contenders}


def at_least(what: str, value: float, bound: float) -> Ratio:
    """Return a ratio that should be `bound` or more."""
    return Ratio(what, value, f"at least {bound:g}", value >= bound - ROUNDING)


def at_most(what: str, value: float, bound: float) -> Ratio:
    """Return a ratio that should be `bound` or less."""
    return Ratio(what, value, f"at most {bound:g}", value <= bound + ROUNDING)
