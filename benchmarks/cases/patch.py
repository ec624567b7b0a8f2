"""Training of a patch on EfficientNet-Lite0: against ART's AdversarialPatchPyTorch, and against a bare loop."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import assay
from assay.patches import Patch, Recipe, measure, train_patch
from assay.patches.evaluate import Where
from benchmarks.measure import Outcome, at_least, at_most, interleaved

SIDE, STEPS, IMAGES, RATE = 64, 8, 15, 0.1
Trains = Callable[[int], Tensor]


def measure_patch(repeats: int) -> Outcome:
    """Time 8 steps over 15 pictures in one batch; each contender's patch is judged alike on 5 held-out pictures."""
    model = assay.load_model("efficientnet-lite0")
    data = assay.load_data("samples", model=model, part="rest 5")
    target = (model.classes or ()).index("toaster")
    x = torch.stack([data.read(at) for at in range(len(data))])

    def ours(steps: int) -> Tensor:
        recipe = Recipe(torch.ones(SIDE, SIDE), target, epochs=steps, batch=IMAGES, optimizer="adam", rate=RATE)
        with tempfile.TemporaryDirectory() as folder:
            return train_patch([model], data, recipe, Path(folder)).patch.pixels

    trains: dict[str, Trains] = {"assay": ours, "bare loop": bare(model.module, x, target)}
    trains["art"] = art(model.module, x, target)
    timed = interleaved({name: _steps(train, STEPS) for name, train in trains.items()}, repeats)
    held_out = assay.load_data("samples", model=model, part="held-out 5")
    rows = []
    for name, one in timed.items():
        judged = Patch(one.results[-1].clamp(0, 1), torch.ones(SIDE, SIDE), target)
        top5 = measure(judged, model, held_out, Where(20)).success_top5
        found = f"after {STEPS} steps among the five likeliest: {100 * top5:.0f} %"
        rows.append(one.row(name, STEPS * IMAGES, found))
    ratios = [
        at_least("art takes … times as long as assay", timed["art"].median / timed["assay"].median, 2.8),
        at_most("assay against the bare loop", timed["assay"].median / timed["bare loop"].median, 1.15),
    ]
    what = f"a {SIDE} x {SIDE} patch on EfficientNet-Lite0, {STEPS} steps of {IMAGES} pictures, per picture and step"
    return Outcome("patch", what, "s", rows, ratios)


def _steps(train: Trains, steps: int) -> Callable[[], Tensor]:
    return lambda: train(steps)


def bare(module: nn.Module, x: Tensor, target: int) -> Trains:
    """Return the least work the training can be: frozen parameters, channels last, one random place per picture."""
    model = copy.deepcopy(module).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    labels = torch.full((len(x),), target)

    def train(steps: int) -> Tensor:
        variable = torch.zeros(3, SIDE, SIDE, requires_grad=True)
        optimizer = torch.optim.Adam([variable], lr=RATE)
        for _ in range(steps):
            pixels = (variable.tanh() + 1) / 2
            images = x.clone(memory_format=torch.channels_last)
            for image in images:
                row, column = (int(one) for one in torch.randint(0, x.shape[-1] - SIDE + 1, (2,)))
                image[:, row : row + SIDE, column : column + SIDE] = pixels
            (grad,) = torch.autograd.grad(F.cross_entropy(model(images), labels), variable)
            variable.grad = grad
            optimizer.step()
        return (variable.detach().tanh() + 1) / 2

    return train


def art(module: nn.Module, x: Tensor, target: int) -> Trains:
    """Return ART's training with its own Adam, no rotation, and the patch at its full size."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import AdversarialPatchPyTorch
        from art.estimators.classification import PyTorchClassifier

    shape = tuple(x.shape[1:])
    classifier = PyTorchClassifier(
        copy.deepcopy(module).eval(), loss=nn.CrossEntropyLoss(), input_shape=shape, nb_classes=1000,
        clip_values=(0.0, 1.0), device_type="cpu",
    )  # fmt: skip
    one_hot = F.one_hot(torch.full((len(x),), target), 1000).float().numpy()

    def train(steps: int) -> Tensor:
        attack = AdversarialPatchPyTorch(
            classifier, rotation_max=0.0, scale_min=0.99, scale_max=1.0, learning_rate=0.05, max_iter=steps,
            batch_size=IMAGES, patch_shape=(3, SIDE, SIDE), patch_type="square", optimizer="Adam", targeted=True,
            verbose=False,
        )  # fmt: skip
        return torch.from_numpy(attack.generate(x.numpy(), one_hot)[0])

    return train
