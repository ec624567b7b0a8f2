from __future__ import annotations

import pytest
import torch

from assay.core.errors import BadInput
from assay.models import Ensemble
from tests.support.bench import Curved

X = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_logits_or_probabilities_are_averaged() -> None:
    one, two = Curved(), Curved(seed=1)
    a, b = one(X), two(X)
    assert torch.allclose(Ensemble([one, two])(X), (a + b) / 2)
    assert torch.allclose(Ensemble([one, two], [3, 1])(X), 0.75 * a + 0.25 * b)
    mean = 0.75 * a.softmax(1) + 0.25 * b.softmax(1)
    assert torch.allclose(Ensemble([one, two], [3, 1], "probabilities")(X).exp(), mean)
    assert torch.allclose(Ensemble([one])(X), a)
    # a network of no weight says nothing
    assert torch.allclose(Ensemble([one, two], [1, 0], "probabilities")(X), a.log_softmax(1))


def test_probabilities_of_saturated_networks_stay_finite() -> None:
    class Loud(torch.nn.Module):
        def forward(self, x):
            return 1e4 * torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)

    x = X.clone().requires_grad_()
    logits = Ensemble([Loud(), Loud()], fuse="probabilities")(x)
    assert bool(logits.isfinite().all())
    assert bool(torch.autograd.grad(logits[:, 0].sum(), x)[0].isfinite().all())


def test_ensembles_that_cannot_be() -> None:
    for networks, weights in (([], None), ([Curved()], [1, 2]), ([Curved()], [0]), ([Curved(), Curved()], [2, -1])):
        with pytest.raises(BadInput, match="expected one network or more"):
            Ensemble(networks, weights)
    with pytest.raises(
        BadInput, match=r"fuse is 'logit', expected one of logits, probabilities.*Did you mean 'logits'"
    ):
        Ensemble([Curved()], fuse="logit")
    with pytest.raises(BadInput, match="4 and 5 classes"):
        Ensemble([Curved(), Curved(classes=4)])(X)
