from __future__ import annotations

import torch

from assay.models.architectures import ARCHITECTURES, mnist_cnn


def test_the_mnist_network_is_the_papers() -> None:
    network = mnist_cnn()
    assert sum(p.numel() for p in network.parameters()) == 1_199_882
    assert [tuple(p.shape) for p in network.parameters() if p.ndim > 1] == [
        (32, 1, 3, 3),
        (64, 32, 3, 3),
        (128, 9216),
        (10, 128),
    ]


def test_it_returns_logits_and_uses_dropout_in_training_alone() -> None:
    network, x = ARCHITECTURES["mnist-cnn"](), torch.rand(4, 1, 28, 28)
    logits = network.eval()(x)
    assert logits.shape == (4, 10)
    assert logits.min() < 0  # neither probabilities nor their logarithms alone would be mixed in sign
    assert torch.equal(logits, network(x))
    assert not torch.equal(network.train()(x), network(x))
