"""Training of an adversarial patch on EfficientNet-Lite0: time per image and step, and what equal steps achieve."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import assay
from assay.attacks.patch import Room, paste
from assay.core.draws import Draws
from assay.data import Data, Sample
from assay.models import Classifier
from assay.patches import Recipe, train_patch
from benchmarks.measure import Outcome, Ratio, at_least, at_most, interleaved
from benchmarks.peers import PatchTask, art_patch
from benchmarks.subjects import Described

MODEL, CLASS, SIZE, HELD_OUT = "efficientnet-lite0", "toaster", 64, 5
# the whole data set is one batch, so that a step is an epoch for everyone
STEPS, TRAINED_STEPS, PLACEMENTS = 10, 60, 20
# of Adam, on the variable behind tanh and on the pixels themselves: the same step at mid-grey, where tanh halves it
RATE, ART_RATE = 0.1, 0.05

Train = Callable[[int], Tensor]
"""`(steps) -> pixels [C, h, w]`: a new patch, from mid-grey; reads its pictures itself."""


def measure(repeats: int) -> Outcome:
    """Time ten steps on 15 pictures, and then judge what the two libraries train in sixty."""
    model = _model()
    data, held_out = (assay.load_data("samples", model=model, part=f"{part} {HELD_OUT}") for part in PARTS)
    target = (model.classes or ()).index(CLASS)
    contenders: dict[str, Train] = {
        "assay": partial(_ours, _model(), data, target),
        "bare limit": partial(_bare, _model(), data, target),
        "art": partial(_art, _model(), data, target),
    }
    timed = interleaved({name: partial(train, STEPS) for name, train in contenders.items()}, repeats)
    judged = {
        name: _judged(train(TRAINED_STEPS), model, held_out, target)
        for name, train in contenders.items()
        if name in LIBRARIES
    }
    milliseconds = STEPS * len(data) / 1000
    rows = [
        one.row(name, milliseconds, _written(*judged[name]) if name in judged else "") for name, one in timed.items()
    ]
    ours = timed["assay"].median
    above = judged["assay"][1] - judged["art"][1]
    ratios = [
        at_least("art takes … times as long", timed["art"].median / ours, 2.8),
        at_most("assay against the bare limit", ours / timed["bare limit"].median, 1.15),
        Ratio(f"mean log-probability of the target above art's after {TRAINED_STEPS} steps", above, "", True),
    ]
    what = (
        f"{SIZE} x {SIZE} patch for {CLASS!r} on {MODEL}, {STEPS} steps of {len(data)} pictures, which every contender "
        f"reads once within its time. Results: after {TRAINED_STEPS} steps, on {len(held_out)} other pictures at "
        f"{PLACEMENTS} places each, the share of hits and the mean log-probability of the target"
    )
    return Outcome("patch", what, "ms per image and step", rows, ratios)


PARTS, LIBRARIES = ("rest", "held-out"), ("assay", "art")


def _model() -> Classifier:
    # one each: holding a model still lays out its weights anew, and art leaves gradients in it
    return assay.load_model(MODEL)


def _ours(model: Classifier, data: Data, target: int, steps: int) -> Tensor:
    recipe = Recipe(torch.ones(SIZE, SIZE), target, epochs=steps, batch=len(data), optimizer="adam", rate=RATE)
    with tempfile.TemporaryDirectory() as folder:
        return train_patch([model], data, recipe, Path(folder)).patch.pixels


def _bare(model: Classifier, data: Data, target: int, steps: int) -> Tensor:
    """Train with the least work a step can be: paste by slicing, one pass there and back, no engine, no files."""
    module = model.module.to(memory_format=torch.channels_last).requires_grad_(False)
    images = _images(data).contiguous(memory_format=torch.channels_last)
    targets = torch.full((len(images),), target)
    variable = torch.zeros(images.shape[1], SIZE, SIZE, requires_grad=True)
    optimizer = torch.optim.Adam([variable], lr=RATE)
    choices = images.shape[-1] - SIZE + 1
    for _ in range(steps):
        pixels = (variable.tanh() + 1) / 2
        pasted = images.clone()
        windows = [
            (slice(None), slice(row, row + SIZE), slice(column, column + SIZE))
            for row, column in torch.randint(choices, (len(images), 2)).tolist()
        ]
        for image, window in zip(pasted, windows, strict=True):
            image[window] = pixels.detach()
        loss = F.cross_entropy(module(pasted.requires_grad_(True)), targets)
        # cut out by hand: autograd would copy all images once per slice
        (grad,) = torch.autograd.grad(loss, pasted)
        covered = torch.stack([one[window] for one, window in zip(grad, windows, strict=True)]).sum(0)
        (variable.grad,) = torch.autograd.grad(pixels, variable, covered)
        optimizer.step()
    return ((variable.tanh() + 1) / 2).detach()


def _art(model: Classifier, data: Data, target: int, steps: int) -> Tensor:
    described = Described(model.module, model.input_shape or (), len(model.classes or ()))
    images = _images(data)
    task = PatchTask(SIZE, target, steps, len(images), ART_RATE)
    return art_patch(described, task)(images)


def _images(data: Data) -> Tensor:
    return torch.stack([sample.image for sample in data.load(range(len(data))) if isinstance(sample, Sample)])


@torch.no_grad()
def _judged(pixels: Tensor, model: Classifier, data: Data, target: int) -> tuple[float, float]:
    """Return the share of (picture, place) pairs that hit the target, and its mean log-probability."""
    images = _images(data)
    places = Room(SIZE, SIZE, *images.shape[2:]).random(Draws.of(data.ids, 0), "judge", PLACEMENTS)
    logits = torch.cat([model.module(paste(images, pixels, torch.ones(SIZE, SIZE), at)) for at in places.unbind(1)])
    return float((logits.argmax(1) == target).double().mean()), float(logits.log_softmax(1)[:, target].mean())


def _written(success: float, likelihood: float) -> str:
    return f"{100 * success:.0f} %, {likelihood:.2f}"
