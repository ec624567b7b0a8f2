"""What the benchmarks attack, the bare limit they are held against, and how a contender is called."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import assay
from benchmarks.peers import PEERS, Recipe

MNIST_BUDGETS = (0.007, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3)


class Described(nn.Module):
    """A model that tells its input shape and its number of classes, which ART wants to know."""

    def __init__(self, module: nn.Module, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.module = module
        self.input_shape, self.classes = input_shape, classes

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.module(x)


@cache
def mnist(count: int) -> tuple[Described, Tensor, Tensor]:
    """Return the packaged MNIST network with the first `count` test digits and their labels."""
    model = assay.load_model("zoo:mnist-cnn")
    samples = assay.load_data("mnist/test", model=model, limit=count).load(range(count))
    x = torch.stack([sample.image for sample in samples])
    y = torch.tensor([sample.label for sample in samples])
    return Described(model.module, (1, 28, 28), 10).eval(), x, y


@cache
def resnet101(count: int) -> tuple[Described, Tensor, Tensor]:
    """Return ResNet-101 with random weights, `count` random images of 224 x 224, and the model's own answers.

    One pass in training mode calibrates the batch-norm statistics: with the initial ones activations overflow, and
    the times of denormal and infinite numbers mislead.
    """
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet101(weights=None)
    x = torch.rand(count, 3, 224, 224)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.rand(8, 3, 224, 224))
        y = model.eval()(x).argmax(1)
    return Described(model, (3, 224, 224), 1000).eval(), x, y


Accuracies = Callable[[], list[float]]


def bare_fgsm(model: nn.Module, x: Tensor, y: Tensor, budgets: Sequence[float], batch: int) -> Accuracies:
    """Return the least work FGSM over these budgets can be: one input gradient, one forward per budget, no engine."""
    model = copy.deepcopy(model).to(memory_format=torch.channels_last).requires_grad_(False)

    def run() -> list[float]:
        right = [0] * len(budgets)
        for start in range(0, len(x), batch):
            images = x[start : start + batch].contiguous(memory_format=torch.channels_last).requires_grad_(True)
            labels = y[start : start + batch]
            (grad,) = torch.autograd.grad(F.cross_entropy(model(images), labels, reduction="sum"), images)
            sign = grad.sign()
            with torch.no_grad():
                for i, eps in enumerate(budgets):
                    right[i] += int((model((images + eps * sign).clamp(0, 1)).argmax(1) == labels).sum())
        return [count / len(x) for count in right]

    return run


def peer(name: str, model: nn.Module, x: Tensor, y: Tensor, recipes: Sequence[Recipe]) -> Accuracies:
    """Return a peer running every recipe in batches of 128, and then asking for the accuracy, as its users do."""
    model = copy.deepcopy(model)
    attacks = [PEERS[name](model, recipe) for recipe in recipes]

    def run() -> list[float]:
        return [accuracy(model, x, y, attack) for attack in attacks]

    return run


def accuracy(model: nn.Module, x: Tensor, y: Tensor, attack: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Return the accuracy of `model` on the attacked images."""
    right = 0
    for images, labels in zip(x.split(128), y.split(128), strict=True):
        attacked = attack(images, labels)
        with torch.no_grad():
            right += int((model(attacked).argmax(1) == labels).sum())
    return right / len(x)


def written(accuracies: Sequence[float]) -> str:
    """Return accuracies as the table shows them."""
    return " ".join(f"{value:.3f}".removeprefix("0") for value in accuracies)
