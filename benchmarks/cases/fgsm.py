"""FGSM over many budgets: ten on ResNet-101 at 224 x 224, eight on the MNIST network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from torch import Tensor

import assay
from benchmarks import subjects
from benchmarks.measure import Outcome, Ratio, at_least, at_most, interleaved
from benchmarks.peers import PEERS, Recipe
from benchmarks.subjects import Described


def resnet101(repeats: int) -> Outcome:
    """Time ten budgets on 4 images."""
    model, x, y = subjects.resnet101(4)
    budgets = [i / 100 for i in range(1, 11)]
    what = "FGSM over ten budgets, ResNet-101 with random weights, 224 x 224, 4 images"
    return _compare("fgsm-resnet101", what, (model, x, y), budgets, repeats, (3.5, 1.10))


def mnist(repeats: int) -> Outcome:
    """Time eight budgets on 500 digits."""
    what = "FGSM over eight budgets, MNIST network, 500 test digits"
    return _compare("fgsm-mnist", what, subjects.mnist(500), subjects.MNIST_BUDGETS, repeats, (2.1, None))


def _compare(  # shape: a table's title, subject, settings and targets
    name: str,
    what: str,
    subject: tuple[Described, Tensor, Tensor],
    budgets: Sequence[float],
    repeats: int,
    targets: tuple[float, float | None],
) -> Outcome:
    model, x, y = subject
    recipes = [Recipe("fgsm", eps) for eps in budgets]
    contenders = {
        "assay": _ours(model, x, y, budgets),
        "bare limit": subjects.bare_fgsm(model, x, y, budgets, batch=128),
        **{peer: subjects.peer(peer, model, x, y, recipes) for peer in PEERS},
    }
    timed = interleaved(contenders, repeats)
    ours, fastest = timed["assay"].median, min(PEERS, key=lambda peer: timed[peer].median)
    ratios: list[Ratio] = [
        at_least(f"{fastest}, the fastest peer, takes … times as long", timed[fastest].median / ours, targets[0]),
    ]
    limit = ours / timed["bare limit"].median
    against = "assay against the bare limit"
    ratios.append(at_most(against, limit, targets[1]) if targets[1] else Ratio(against, limit, "", True))
    # a network with random weights is chaotic: its accuracies depend on the last bit and say nothing
    found = {key: subjects.written(one.accuracies) if name == "fgsm-mnist" else "" for key, one in timed.items()}
    rows = [one.row(key, len(x), found[key]) for key, one in timed.items()]
    return Outcome(name, what, "s per image", rows, ratios)


def _ours(model: Described, x: Tensor, y: Tensor, budgets: Sequence[float]) -> Callable[[], list[float]]:
    model = copy.deepcopy(model)
    threats = [assay.Linf(eps) for eps in budgets]
    return lambda: [one.robust_accuracy for one in assay.sweep(assay.FGSM(), model, x, y, threats=threats)]
