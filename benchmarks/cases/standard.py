"""AutoAttack standard: the authors' passes and ours in one run, and what the network alone takes for them."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import torch

from benchmarks.cases.attacks import LIMIT
from benchmarks.measure import Outcome, Ratio, Row, at_most, interleaved
from benchmarks.strength.board import Task
from benchmarks.strength.child import run_child
from benchmarks.strength.judge import Figures
from benchmarks.strength.rows import rows
from benchmarks.strength.subjects import subject

DIGITS, WANTED = 10, 0.75
# looks that are timed for what one row of a pass takes
_LOOKS = 40


def measure(repeats: int) -> Outcome:
    """Count the passes of both on the same digits, and time them and the bare network."""
    row = rows()["autoattack-linf-0.1@cnn"]
    runs: dict[str, Any] = {
        one.name: partial(run_child, Task.of(row, one, DIGITS), LIMIT) for one in (row.ours, *row.peers)
    }
    timed = interleaved(runs, repeats)
    ours, theirs = ([dict(one) for one in timed[name].results] for name in runs)
    forward, backward = bare(row.subject)
    lines, floors = [], {}
    for name, own in zip(runs, (ours, theirs), strict=True):
        first, attacked = own[0], own[0]["images"] - own[0]["mistakes"]
        seconds = [1000 * one["cpu"] / attacked for one in own]
        # every backward belongs to a forward that keeps what it needs
        floor = 1000 * ((first["forwards"] - first["backwards"]) * forward + first["backwards"] * backward)
        floors[name] = floor
        found = f"{Figures.of(row, first).written(row)}; {first['forwards']:,.0f} F, {first['backwards']:,.0f} B"
        lines += [Row(name, statistics.median(seconds), min(seconds), max(seconds), found)]
        lines += [Row(f"the network alone, at the passes of {name}", floor, floor, floor)]
    costs = [line.median for line in lines]
    passes = [one[0]["forwards"] + one[0]["backwards"] for one in (ours, theirs)]
    ratios = [
        at_most("assay against the authors' time", costs[0] / costs[2], WANTED),
        Ratio("assay's passes against the authors'", passes[0] / passes[1], "", True),
        Ratio("the network alone at assay's passes against the authors' time", costs[1] / costs[2], "", True),
    ]
    what = f"AutoAttack standard in Linf .1, MNIST network, {DIGITS} test digits, CPU time of one thread"
    return Outcome("standard", what, "ms per digit", lines, ratios)


def bare(name: str) -> tuple[float, float]:
    """Return the CPU seconds of a row's forward, and of its forward and backward, in batches as large as survive."""
    torch.set_num_threads(1)
    judge = subject(name, DIGITS)
    x, y = judge.x, judge.y
    forward, backward = [], []
    for _ in range(_LOOKS):
        began = time.process_time()
        with torch.no_grad():
            judge.model.module(x)
        between = time.process_time()
        points = x.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(judge.model.module(points), y, reduction="sum")
        torch.autograd.grad(loss, points)
        forward.append((between - began) / len(x))
        backward.append((time.process_time() - between) / len(x))
    return statistics.median(forward), statistics.median(backward)
