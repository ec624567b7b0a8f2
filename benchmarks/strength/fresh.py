"""Networks that nobody chose an attack on: trained on first use within a minute or two, and kept in Assay's cache.

Three seeds, three architectures, three methods of training; what is kept is found by the content of this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from torch import nn

import assay
from assay.data.mnist import mnist
from assay.files import cache_dir
from assay.models import Preprocess
from assay.models.seeded import seeded
from assay.training import FitSettings, Loss, Madry, Trades, fit
from assay.training.dataset_view import InMemory

IMAGES, VALIDATION = 8_000, 500


def pgd() -> assay.Classifier:
    """Return a small convolutional network trained with PGD of Linf .3 (Madry et al. 2018)."""
    return _trained("pgd", 11, _wide, Madry(0.3, steps=5, step_size=0.4, warmup=0.5), epochs=5)


def trades() -> assay.Classifier:
    """Return a network of strided convolutions trained with TRADES of Linf .2."""
    return _trained("trades", 12, _strided, Trades(0.2, steps=4, step_size=0.4, beta=6, warmup=0.5), epochs=5)


def l2() -> assay.Classifier:
    """Return a dense network trained with PGD of L2 1.5."""
    return _trained("l2", 13, _dense, Madry(1.5, steps=5, step_size=0.4, norm="l2", warmup=0.5), epochs=6)


def _wide() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((1, 12), (12, 24)):
        layers += [nn.Conv2d(before, after, 5, stride=2, padding=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 49, 64), nn.ReLU(), nn.Linear(64, 10))


def _strided() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, 10))


def _dense() -> nn.Module:
    sizes = ((784, 256), (256, 256), (256, 128))
    hidden = [layer for before, after in sizes for layer in (nn.Linear(before, after), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))


def _trained(name: str, seed: int, make: Callable[[], nn.Module], loss: Loss, epochs: int) -> assay.Classifier:
    with seeded(seed):
        module = make()
    images, labels = mnist("train")
    train = InMemory(images[:IMAGES], labels[:IMAGES])
    held_out = InMemory(images[-VALIDATION:], labels[-VALIDATION:])
    settings = FitSettings(epochs, 100, 4e-3, seed=seed, loss=loss, schedule="triangular")
    code = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=8).hexdigest()
    # a training goes on from its checkpoint, and one that is complete is just read
    folder = cache_dir() / "fresh" / f"{name}-{code}"
    folder.mkdir(parents=True, exist_ok=True)
    fit(module, train, held_out, settings, folder)
    return assay.Classifier(
        module=module.eval(),
        spec=f"python:{__name__}.{name}",
        input_shape=(1, 28, 28),
        mean=(0.0,),
        std=(1.0,),
        preprocess=Preprocess((28,), (28, 28)),
        classes=tuple("0123456789"),
    )
