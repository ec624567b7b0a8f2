"""PGD-40 in Linf 0.1 on the MNIST network: time at the same or lower robust accuracy."""

from __future__ import annotations

import copy
from collections.abc import Callable

import assay
from benchmarks import subjects
from benchmarks.measure import Outcome, at_least, at_most, interleaved
from benchmarks.peers import PEERS, Recipe

EPS, STEPS = 0.1, 40
# a fortieth of 2.5 budgets, the step of Madry et al.; the same for everyone
SIZE = 2.5 * EPS / STEPS


def measure(repeats: int) -> Outcome:
    """Time one budget on 500 digits, from a random start."""
    model, x, y = subjects.mnist(500)
    recipe = Recipe("pgd", EPS, STEPS, SIZE, random_start=True)
    own = copy.deepcopy(model)

    def ours() -> list[float]:
        return [assay.attack(assay.PGD(steps=STEPS), own, x, y, threat=assay.Linf(EPS)).robust_accuracy]

    contenders: dict[str, Callable[[], list[float]]] = {"assay": ours}
    contenders |= {peer: subjects.peer(peer, model, x, y, [recipe]) for peer in PEERS}
    timed = interleaved(contenders, repeats)
    fastest = min(PEERS, key=lambda peer: timed[peer].median)
    ratio = timed[fastest].median / timed["assay"].median
    rows = [one.row(name, 1, subjects.written(one.result)) for name, one in timed.items()]
    ratios = [
        at_least(f"{fastest}, the fastest peer, takes … times as long", ratio, 1.35),
        # random starts differ, and with them a digit or so
        at_most(f"robust accuracy above {fastest}'s", timed["assay"].result[0] - timed[fastest].result[0], 1 / len(x)),
    ]
    what = "PGD-40 in Linf 0.1 with random start, MNIST network, 500 test digits"
    return Outcome("pgd-mnist", what, "s", rows, ratios)
