"""What the doctor asks of models that answer outside of torch, or can only be asked: files, endpoints, functions."""

from __future__ import annotations

import contextlib
import dataclasses

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import ModelError
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.oracle import Access, TorchOracle
from assay.core.signals import apart
from assay.core.tensors import flat
from assay.models import Classifier
from assay.models.deployed import Deployed, twins_alone
from assay.models.remote.place import fresh

MOST_ASKED = 32
"""Rows that the doctor asks an endpoint at most: 16 images, and of four of them three answers more."""

IMAGES, FEW = 16, 4
_LEVEL = 1 / 255
# of a grey level: what an image of 8 bits loses
_SHIFT = 0.4
# of a grey level: steps by which slopes are measured
_LENGTHS = (1.0, 1 / 8, 1 / 64)


@dataclasses.dataclass(frozen=True)
class Told:
    """What a model that answers outside of torch showed beyond its answers.

    `levels` are its logits for images of whole grey levels, and for the same images less than half a level away.
    `twin` are those of its white-box twin for the first images, beside its own; `slopes` how much the margin changes
    along the twin's gradient, as measured and as the gradient tells. Each None where it was not asked.
    """

    levels: tuple[Tensor, Tensor] | None = None
    twin: tuple[Tensor, Tensor] | None = None
    slopes: tuple[Tensor, Tensor] | None = None


def asked_only(model: Classifier) -> bool:
    """Whether a model gives scores or labels alone, or answers outside of torch."""
    return model.access is not Access.GRADIENT or model.outside or has_twin(model)


def has_twin(model: Classifier) -> bool:
    """Whether a model answers outside of torch, and has the gradients of a twin."""
    return any(isinstance(part, Deployed) and part.twin is not None for part in model.module.modules())


def gather(model: Classifier, oracle: TorchOracle, x: Tensor, y: Tensor) -> Told:
    """Ask about up to `FEW` of the images `x` `[N, C, H, W]` with labels `y`: 8 rows; of a file with a twin 36 more."""
    x, y = x[:FEW], y[:FEW]
    levels = None
    if model.access is not Access.LABELS:
        whole = (x / _LEVEL).round() * _LEVEL
        # towards the middle, so that no value leaves the box
        near = whole + torch.where(whole < 0.5, _SHIFT, -_SHIFT) * _LEVEL
        levels = (_scores(oracle, whole, y), _scores(oracle, near, y))
    if not has_twin(model):
        return Told(levels)
    with twins_alone():
        twin = apart(oracle.answers(x), model.rejects).logits
    # of an endpoint every row may be billed
    slopes = None if model.outside else _slopes(oracle, x, y)
    return Told(levels, (apart(_scores(oracle, x, y), model.rejects).logits, twin), slopes)


def again(oracle: TorchOracle) -> contextlib.AbstractContextManager[None]:
    """Let the model be asked anew meanwhile, where its answers are kept: for who asks whether it repeats itself."""
    return fresh() if oracle.outside else contextlib.nullcontext()


def _scores(oracle: TorchOracle, x: Tensor, y: Tensor) -> Tensor:
    draws = Draws(torch.arange(len(x), device=x.device))
    return oracle.look(x, Untargeted(y), margin, Access.SCORES, draws).logits


def _slopes(oracle: TorchOracle, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    draws, goal = Draws(torch.arange(len(x), device=x.device)), Untargeted(y)
    try:
        grad = oracle.look(x, goal, margin, Access.GRADIENT, draws).grad
    except ModelError:
        return None
    assert grad is not None, "it was asked for"
    way, expected = grad.sign(), flat(grad.abs()).sum(1)

    def measured(length: float) -> Tensor:
        ends = [oracle.look(x + side * length * way, goal, margin, Access.SCORES, draws).loss for side in (1, -1)]
        return (ends[0] - ends[1]) / (2 * length)

    # a whole level of every pixel leads far from where the gradient was taken; less of it some models round away
    tried = torch.stack([measured(_LEVEL * share) for share in _LENGTHS])
    nearest = (tried - expected).abs().argmin(0)
    return tried.gather(0, nearest[None])[0], expected
