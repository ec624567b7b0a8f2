"""The models and images of the board."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cache

import torch
from torch import Tensor

import assay
from benchmarks.strength.counted import Counted, answers, wrong


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model with the images it gets right, out of `images`; the others count as broken by nothing."""

    model: Counted
    x: Tensor
    y: Tensor
    images: int
    weights: str
    pictures: str

    @property
    def mistakes(self) -> int:
        """How many images are wrong before any attack."""
        return self.images - len(self.x)


@cache
def subject(name: str, images: int) -> Subject:
    """Return the model `name` and the first `images` images: MNIST test digits, or the packaged sample pictures.

    Raises `assay.BadInput` for a model that is not there.
    """
    classifier = assay.load_model(name)
    source = "mnist/test" if classifier.input_shape == (1, 28, 28) else "samples"
    data = assay.load_data(source, model=classifier, limit=images)
    samples = data.load(range(len(data.ids)))
    x = torch.stack([sample.image for sample in samples])
    y = torch.tensor([sample.label for sample in samples])
    module = classifier.module.eval().requires_grad_(False)
    logits = answers(module, x)
    right = ~wrong(logits, y)
    content = hashlib.blake2b(x.numpy().tobytes() + y.numpy().tobytes(), digest_size=16).hexdigest()
    shape = tuple(x.shape[1:])
    counted = Counted(module, shape, logits.shape[1])
    return Subject(counted.eval(), x[right], y[right], len(x), str(classifier.digest), content)
