"""PGD-40 in Linf 0.1 on the MNIST network: time at the same or lower robust accuracy."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import assay
from benchmarks import subjects
from benchmarks.measure import Outcome, at_least, at_most, interleaved
from benchmarks.peers import PEERS, Recipe

EPS, STEPS = 0.1, 40
# a fortieth of 2.5 budgets, the step of Madry et al.; the same for everyone
SIZE = 2.5 * EPS / STEPS
# accuracies are means over the repeats, each from other random starts; one run strays by about this much
NOISE = 0.006


def measure(repeats: int) -> Outcome:
    """Time one budget on 500 digits, from a random start."""
    model, x, y = subjects.mnist(500)
    recipe = Recipe("pgd", EPS, STEPS, SIZE, random_start=True)
    own = copy.deepcopy(model)

    seeds = itertools.count()

    def ours() -> list[float]:
        attack, threat = assay.PGD(steps=STEPS), assay.Linf(EPS)
        return [assay.attack(attack, own, x, y, threat=threat, seed=next(seeds)).robust_accuracy]

    contenders: dict[str, Callable[[], list[float]]] = {"assay": ours}
    contenders |= {peer: subjects.peer(peer, model, x, y, [recipe]) for peer in PEERS}
    timed = interleaved(contenders, repeats)
    fastest = min(PEERS, key=lambda peer: timed[peer].median)
    ratio = timed[fastest].median / timed["assay"].median
    higher = timed["assay"].accuracies[0] - timed[fastest].accuracies[0]
    rows = [one.row(name, 1, subjects.written(one.accuracies)) for name, one in timed.items()]
    ratios = [
        at_least(f"{fastest}, the fastest peer, takes … times as long", ratio, 1.35),
        at_most(f"robust accuracy above {fastest}'s", higher, NOISE),
    ]
    what = "PGD-40 in Linf 0.1 with random start, MNIST network, 500 test digits"
    return Outcome("pgd-mnist", what, "s", rows, ratios)
