"""Whole attacks against the fastest reference of each: time at the same or a better result, on the MNIST network.

Every contender runs in a process of its own, on one thread; the rows are those of the strength board, on fewer digits.
"""

from __future__ import annotations

import dataclasses
import statistics
from functools import partial
from typing import Any

from benchmarks.measure import Outcome, Ratio, Row, at_most, interleaved
from benchmarks.strength import board
from benchmarks.strength.board import OURS, Contender, Task
from benchmarks.strength.child import run_child
from benchmarks.strength.judge import MEDIAN, Figures
from benchmarks.strength.rows import CNN, minimum_row, rows

LIMIT = 3600.0
# images of a robust accuracy by which one random start strays
CHANCE = 1


@dataclasses.dataclass(frozen=True)
class Match:
    """A row of the board on `digits` digits, our options there, and what share of the fastest peer's time is wanted.

    `queries`: seconds are per query that a contender made, and not per digit.
    """

    row: board.Row
    digits: int
    share: float
    options: dict[str, Any] | None = None
    queries: bool = False

    @property
    def contenders(self) -> dict[str, Contender]:
        """By name; ours first."""
        ours = self.row.ours if self.options is None else dataclasses.replace(self.row.ours, options=self.options)
        return {one.name: one for one in (ours, *self.row.peers)}

    def cost(self, result: dict[str, Any]) -> float:
        """Return a result's milliseconds per digit or query."""
        attacked = max(1, result["images"] - result["mistakes"])
        milliseconds: float = 1000 * result["cpu"] / attacked / (result["forwards"] if self.queries else 1)
        return milliseconds


def matches() -> list[Match]:
    """Return what is compared: fixed budgets, smallest changes, queries."""
    on_board = rows()
    peer = Contender("foolbox", "HopSkipJumpAttack", {"steps": 10})
    at_once = minimum_row("hop-skip-jump", CNN, "l2", Contender(OURS, "hop-skip-jump", {"queries": 2000}), [peer])
    return [
        Match(on_board["autoattack-linf-0.1@cnn"], 20, 0.75),
        # fewer steps than the references take for a larger median
        Match(on_board["ddn-l2@cnn"], 100, 0.7, {"steps": 60}),
        Match(on_board["fmn-l2@cnn"], 100, 0.7, {"steps": 40}),
        Match(on_board["fmn-linf@cnn"], 100, 0.7, {"steps": 80}),
        Match(on_board["carlini-wagner-l2@cnn"], 20, 0.5),
        Match(on_board["square-linf-0.2@cnn"], 50, 1.0, queries=True),
        Match(at_once, 30, 1.0, queries=True),
    ]


def measure(repeats: int) -> Outcome:
    """Time all of them, one after the other."""
    lines, ratios = [], []
    for match in matches():
        tasks = {name: Task.of(match.row, one, match.digits) for name, one in match.contenders.items()}
        runs = {name: partial(run_child, task, LIMIT) for name, task in tasks.items()}
        timed = interleaved(runs, repeats)
        results = {name: list(one.results) for name, one in timed.items() if all("cpu" in r for r in one.results)}
        lines += [_line(match, name, results[name]) for name in results]
        ratios += _ratios(match, results)
    what = "attacks and their references, MNIST network, at most 100 test digits, CPU time of one thread"
    return Outcome("attacks", what, "ms per digit, or per query where queries count", lines, ratios)


def _line(match: Match, name: str, results: list[dict[str, Any]]) -> Row:
    costs = [match.cost(one) for one in results]
    found = Figures.of(match.row, results[0]).written(match.row)
    passes = f"{results[0]['forwards']:,.0f} F, {results[0]['backwards']:,.0f} B"
    name = f"{match.row.name}: {name}"
    return Row(name, statistics.median(costs), min(costs), max(costs), f"{found}; {passes}")


def _ratios(match: Match, results: dict[str, list[dict[str, Any]]]) -> list[Ratio]:
    costs = {name: statistics.median(match.cost(one) for one in runs) for name, runs in results.items()}
    ours = next(iter(match.contenders))
    peers = [name for name in costs if name != ours]
    fastest = min(peers, key=lambda name: costs[name])
    ratios = [at_most(f"{match.row.name}: {ours} against {fastest}", costs[ours] / costs[fastest], match.share)]
    figures = {name: Figures.of(match.row, runs[0]) for name, runs in results.items()}
    if match.row.kind == board.BUDGET:
        most = CHANCE / match.digits
        higher = figures[ours].robust - min(figures[name].robust for name in peers)
        return [*ratios, at_most(f"{match.row.name}: robust accuracy above the strongest peer's", higher, most)]
    larger = figures[ours].median / min(figures[name].median for name in peers)
    return [*ratios, at_most(f"{match.row.name}: median against the smallest of a peer", larger, MEDIAN)]
