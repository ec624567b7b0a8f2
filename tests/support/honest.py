"""Honest networks, which an audit must not refute: trained here once, within minutes, and kept in Assay's cache.

`honest(name)` for each of `HONEST`. What is kept is found by the content of this file: an edit trains anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.data.mnist import mnist
from assay.files import cache_dir
from assay.models import Classifier, Preprocess, load_model
from assay.models.architectures import mnist_fast
from assay.models.seeded import seeded
from assay.training.adversarial import Trades
from assay.training.dataset_view import InMemory
from assay.training.fit import FitSettings, fit

CENTRES, VALIDATION = 1000, 1000


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


class RadialBasis(nn.Module):
    """Logits that are sums of bumps exp(-width |x - c|^2) around training images."""

    def __init__(self, width: float = 0.02) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("centres", mnist("train")[0][:CENTRES].flatten(1).float() / 255)
        self.readout = nn.Linear(CENTRES, 10)

    def forward(self, x: Tensor) -> Tensor:
        x, c = x.flatten(1), self.centres
        squares = x.square().sum(1, keepdim=True) - 2 * x @ c.T + c.square().sum(1)
        return self.readout(10 * torch.exp(-self.width * squares))


def smooth_cnn() -> nn.Module:
    """Return `mnist_fast` with SiLU: a gradient without corners."""
    layers = [nn.SiLU() if isinstance(layer, nn.ReLU) else layer for layer in mnist_fast()]
    return nn.Sequential(*layers)


class Block(nn.Module):
    """One layer of a transformer, normalised in front of each part."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        n, tokens, width = h.shape
        parts = self.mix(self.norms[0](h)).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        h = h + self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(n, tokens, width))
        return h + self.mlp(self.norms[1](h))


class SmallTransformer(nn.Module):
    """A vision transformer of 16 patches of 7 x 7 pixels."""

    def __init__(self, width: int = 64, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, stride=7)
        self.places = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.blocks(h)).mean(1))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A network to train and how; `accuracy` is the least that the test images must show."""

    make: Callable[[], nn.Module]
    settings: FitSettings
    accuracy: float


def _settings(epochs: int, rate: float, **more: object) -> FitSettings:
    return FitSettings(epochs=epochs, batch=100, learning_rate=rate, schedule="triangular", **more)  # type: ignore[arg-type]


RECIPES = {
    "linear": Recipe(linear, _settings(4, 2e-3), 0.91),
    "rbf": Recipe(RadialBasis, _settings(6, 3e-2), 0.94),
    "smooth-cnn": Recipe(smooth_cnn, _settings(3, 4e-3), 0.975),
    "transformer": Recipe(SmallTransformer, _settings(5, 3e-3), 0.97),
    "trades": Recipe(mnist_fast, _settings(4, 4e-3, loss=Trades(0.3, steps=7, step_size=0.3, warmup=0.5)), 0.96),
}
SHIPPED = {"plain": "zoo:mnist-cnn", "pgd": "zoo:mnist-pgd"}
HONEST = (*SHIPPED, *RECIPES)


@functools.cache
def honest(name: str) -> Classifier:
    """Return the honest network of that name in `HONEST`; the first call on a machine trains it."""
    if name in SHIPPED:
        return load_model(SHIPPED[name])
    recipe = RECIPES[name]
    with seeded(0):
        module = recipe.make()
    images, labels = mnist("train")
    train = InMemory(images[:-VALIDATION], labels[:-VALIDATION])
    code = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=8).hexdigest()
    # a training goes on from its checkpoint, and one that is complete is just read
    with _alone(cache_dir() / "honest" / f"{name}-{code}") as folder:
        fit(module, train, InMemory(images[-VALIDATION:], labels[-VALIDATION:]), recipe.settings, folder)
    described = Classifier(
        module=module.eval(),
        spec=f"python:tests.support.honest.{name}",
        input_shape=(1, 28, 28),
        mean=(0.0,),
        std=(1.0,),
        preprocess=Preprocess((28,), (28, 28)),
        classes=tuple("0123456789"),
    )
    return load_model(described)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """Let one process at a time use `folder`: the others wait and find the work done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
