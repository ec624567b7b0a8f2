"""Networks that Assay defines itself, each a plain module built by a function without arguments."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def mnist_cnn() -> nn.Module:
    """Return the MNIST network of Sen et al. 2023: float32 `[N, 1, 28, 28]` in [0, 1] -> logits `[N, 10]`.

    Two 3x3 convolutions (32, 64), 2x2 max pooling, two dense layers (128, 10): 1,199,882 parameters. The
    paper's table leaves the pooling out; without it the first dense layer could not have its 9,216 inputs.
    """
    return _mnist_network(32, 128)


def mnist_cnn_half() -> nn.Module:
    """Return `mnist_cnn` at half its width (16, 32, 64, 10; 300,426 parameters).

    The second network of the public notebook that probably lies behind the distillation of Sen et al. 2023.
    """
    return _mnist_network(16, 64)


def mnist_fast() -> nn.Module:
    """Return the small MNIST network of Wong et al. 2020, in which adversarial training is fast.

    Two 4x4 convolutions of stride 2 (16, 32 filters), two dense layers (100, 10): 166,406 parameters. `[N, 1, 28, 28]`
    in [0, 1] -> logits `[N, 10]`.
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 49, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def _mnist_network(filters: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, filters, 3),
        nn.ReLU(),
        nn.Conv2d(filters, 2 * filters, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.25),
        nn.Flatten(),
        nn.Linear(2 * filters * 144, hidden),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(hidden, 10),
    )


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "mnist-cnn": mnist_cnn,
    "mnist-cnn-half": mnist_cnn_half,
    "mnist-fast": mnist_fast,
}
