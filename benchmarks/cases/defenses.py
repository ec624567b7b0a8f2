"""What a look through a chain of defences costs over the passes that the table says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import assay
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import Access
from assay.models import Classifier
from benchmarks.measure import Outcome, Ratio, at_most, interleaved

DIGITS = 120
CHAINS = ("median:size=2|jpeg:quality=75", "bit-depth:bits=1", "resize-pad", "crop-ensemble:crops=5")


def measure(repeats: int) -> Outcome:
    """Time looks with a gradient through chains, bare looks, and the chains' transformations alone."""
    samples = assay.load_data("mnist/test").load(range(DIGITS))
    x, y = torch.stack([one.image for one in samples]), torch.tensor([one.label for one in samples])
    bare = assay.load_model("zoo:mnist-cnn")
    models = {chain: assay.defend(bare, chain) for chain in CHAINS}
    contenders: dict[str, Callable[[], None]] = {"bare": partial(_look, bare, x, y)}
    for chain, model in models.items():
        contenders[chain] = partial(_look, model, x, y)
        contenders[f"{chain}, without the network"] = partial(_look, _without_network(model), x, y)
    timed = interleaved(contenders, repeats)
    ratios: list[Ratio] = []
    for chain, model in models.items():
        network = timed[chain].median - timed[f"{chain}, without the network"].median
        said = timed["bare"].median * model.passes.forwards
        ratios.append(
            at_most(f"{chain}, its transformations apart, against {model.passes.forwards} bare", network / said, 1.05)
        )
    rows = [one.row(name) for name, one in timed.items()]
    return Outcome("defenses", f"one look with a gradient, MNIST network, {DIGITS} test digits", "s", rows, ratios)


class _Flat(torch.nn.Module):
    """Ten pixels as the answer: what is left is the time of everything else."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, 300:310] + 0.0 * x.flatten(1).sum(1, keepdim=True)


def _without_network(model: Classifier) -> Classifier:
    chain = model.spec.partition("|")[2]
    return assay.defend(Classifier(_Flat(), input_shape=(1, 28, 28)), chain)


def _look(model: Classifier, x: Tensor, y: Tensor) -> None:
    draws = Draws.of([str(i) for i in range(len(x))], 0)
    with model.held():
        model.oracle().look(x, Untargeted(y), cross_entropy, Access.GRADIENT, draws)
