"""What a run of 60,000 images costs over a bare torch loop that makes the same passes in batches of the same size."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import assay
from assay.core.oracle import micro_batch
from benchmarks import subjects
from benchmarks.measure import Outcome, Ratio, at_most, interleaved

DIGITS, CHUNK, EPS, STEPS = 60_000, 128, 0.1, 10


def measure(repeats: int) -> Outcome:
    """Time FGSM and PGD-10 on MNIST's training digits, each image attacked to the end, with the engine and without."""
    contenders: dict[str, Callable[[], list[float]]] = {}
    for name, steps in (("fgsm", 1), (f"pgd-{STEPS}", STEPS)):
        contenders[f"engine, {name}"] = engine(steps, DIGITS)
        contenders[f"bare loop, {name}"] = bare(steps, DIGITS)
    timed = interleaved(contenders, repeats)
    ratio = {
        name: timed[f"engine, {name}"].median / timed[f"bare loop, {name}"].median for name in ("fgsm", f"pgd-{STEPS}")
    }
    ratios = [
        # two forwards and a backward of a network this small are next to nothing: what is left is the engine's own
        Ratio("engine against the bare loop, FGSM", ratio["fgsm"], "", True),
        at_most(f"engine against the bare loop, PGD-{STEPS}", ratio[f"pgd-{STEPS}"], 1.02),
    ]
    rows = [one.row(name, 1, subjects.written(one.accuracies)) for name, one in timed.items()]
    what = f"FGSM and PGD-{STEPS} in Linf {EPS}, MNIST network, {DIGITS:,} training digits"
    return Outcome("engine-60000", what, "s", rows, ratios)


def engine(steps: int, digits: int) -> Callable[[], list[float]]:
    """Return a whole run: data read, records stored, numbers counted."""
    model, data = assay.load_model("zoo:mnist-cnn"), assay.load_data("mnist/train", limit=digits)
    attack = "fgsm" if steps == 1 else {"attack": "pgd", "steps": steps}

    def run() -> list[float]:
        with tempfile.TemporaryDirectory() as out:
            settings = {"question": "as_attacked", "chunk": CHUNK, "doctor": False, "audit": "off", "display": "none"}
            found = assay.evaluate(model, data, attacks=[attack], threat=assay.Linf(EPS), out=out, **settings)
            return [one.robust_accuracy for one in found.results()]

    return run


def bare(steps: int, digits: int) -> Callable[[], list[float]]:
    """Return the same passes in plain torch; FGSM's gradient comes with the answer for the image itself."""
    data = assay.load_data("mnist/train", limit=digits)
    samples = data.load(range(digits))
    x = torch.stack([one.image for one in samples]).contiguous(memory_format=torch.channels_last)
    y = torch.tensor([one.label for one in samples])
    model = copy.deepcopy(assay.load_model("zoo:mnist-cnn").module).to(memory_format=torch.channels_last).eval()
    model.requires_grad_(False)
    climbing, looking = micro_batch(x), micro_batch(x, backward=False)

    def gradient(images: Tensor, labels: Tensor) -> Tensor:
        images = images.requires_grad_(True)
        return torch.autograd.grad(F.cross_entropy(model(images), labels, reduction="sum"), images)[0]

    def right(images: Tensor, labels: Tensor) -> int:
        with torch.no_grad():
            parts = zip(images.split(looking), labels.split(looking), strict=True)
            return sum(int((model(part).argmax(1) == own).sum()) for part, own in parts)

    def run() -> list[float]:
        kept = 0
        for images, labels in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
            adversarial, size = images, EPS
            if steps > 1:
                right(images, labels)
                adversarial = (images + EPS * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
                size = 2.5 * EPS / steps
            for _ in range(steps):
                grad = torch.cat(
                    [
                        gradient(part.detach(), own)
                        for part, own in zip(adversarial.split(climbing), labels.split(climbing), strict=True)
                    ]
                )
                adversarial = (adversarial + size * grad.sign()).clamp(images - EPS, images + EPS).clamp(0, 1)
            kept += right(adversarial, labels)
        return [kept / digits]

    return run
