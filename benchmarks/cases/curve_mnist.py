"""The robustness curve over eight budgets: our two worst-case orders against peers that run every budget.

`ascending` attacks every survivor afresh at every budget. `descending` starts a smaller budget from what broke a
larger one and takes a sample that stands at a budget to stand at every smaller one. The table shows the accuracies
of all, so that speed bought with a weaker curve would show.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import assay
from benchmarks import subjects
from benchmarks.measure import Outcome, at_least, at_most, interleaved
from benchmarks.peers import PEERS, Recipe

DIGITS, STEPS = 250, 20
# accuracies are means over the repeats, each from other random starts; the largest of 8 strays by about this much
NOISE = 0.01


def measure(repeats: int) -> Outcome:
    """Time PGD-20 at eight budgets on 250 digits."""
    model, x, y = subjects.mnist(DIGITS)
    budgets = subjects.MNIST_BUDGETS
    recipes = [Recipe("pgd", eps, STEPS, 2.5 * eps / STEPS, random_start=True) for eps in budgets]
    threats = [assay.Linf(eps) for eps in budgets]
    own = copy.deepcopy(model)

    def ours(order: str) -> Callable[[], list[float]]:
        seeds = itertools.count()

        def run() -> list[float]:
            settings = {"question": "worst_case", "order": order, "seed": next(seeds)}
            found = assay.sweep(assay.PGD(steps=STEPS), own, x, y, threats=threats, **settings)
            return [one.robust_accuracy for one in found]

        return run

    contenders = {f"assay, {order}": ours(order) for order in ("descending", "ascending")}
    contenders |= {peer: subjects.peer(peer, model, x, y, recipes) for peer in PEERS}
    timed = interleaved(contenders, repeats)
    fastest = min(PEERS, key=lambda peer: timed[peer].median)
    ratios = []
    for name in (name for name in contenders if name not in PEERS):
        ratio = timed[fastest].median / timed[name].median
        ratios.append(at_least(f"{fastest}, the fastest peer, takes … times as long as {name}", ratio, 2.5))
        higher = max(mine - its for mine, its in zip(timed[name].accuracies, timed[fastest].accuracies, strict=True))
        ratios.append(at_most(f"{name}: robust accuracy above {fastest}'s, largest of 8", higher, NOISE))
    rows = [one.row(name, 1, subjects.written(one.accuracies)) for name, one in timed.items()]
    what = "robustness curve, PGD-20 at eight budgets in Linf, MNIST network, 250 test digits"
    return Outcome("curve-mnist", what, "s", rows, ratios)
