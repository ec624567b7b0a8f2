"""How a Keras model ends: its last softmax or sigmoid taken apart, so that scores have gradients everywhere."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.core.errors import BadInput
from assay.models.keras_network import KerasNetwork
from assay.models.normalized import LogOdds, LogProbabilities, Thresholded, ThresholdedProbability

# what may stand behind a softmax without changing an answer
_BEHIND = frozenset({"Flatten", "Reshape", "Dropout", "Identity"})
HEADS = ("softmax", "sigmoid")
# endings whose answers are scores of either sign
_SCORES = ("linear", "log_softmax", "logsoftmax")

_CLOSE = 1e-5
"""By how much probabilities may differ that are computed with the softmax and from the scores before it."""
_SUM = 1e-3

_LABELS = (
    "Every class has a sigmoid of its own. The scores before them are attacked; where an image may have several "
    "labels, say so to the goal: assay.MultiLabel."
)
_SUMMED = (
    "The model returns probabilities, and their softmax stands inside it: their logarithm is attacked, which has no "
    "gradient where they are 0 or 1."
)


@dataclasses.dataclass(frozen=True)
class Ended:
    """A network whose scores can be attacked, what they are ("logits" or "probabilities"), and what to say of them."""

    module: nn.Module
    outputs: str
    notes: tuple[str, ...] = ()


def ended(network: KerasNetwork, probes: Tensor, threshold: float | None) -> Ended:
    """Return the network with its last activation taken apart, compared with the model as it is on images `probes`.

    `threshold` is that of a model with one score per image, as the file gives it.
    """
    (model,) = network.program
    kind = ending(model.outputs[0])
    before = _answers(network, probes)
    several = before.shape[1] > 1
    if threshold is not None and several:
        raise BadInput(
            f"threshold is {threshold:g}, but the model gives {before.shape[1]} scores per image, expected one. Leave "
            "it out."
        )
    if kind in HEADS:
        return _of_head(network, kind, before, probes, threshold)
    if several and bool((before >= 0).all()) and bool(((before.sum(1) - 1).abs() < _SUM).all()):
        return Ended(LogProbabilities(network), "probabilities", (_SUMMED,))
    module = network if threshold is None else Thresholded(network, threshold)
    return Ended(module, "logits", () if kind in _SCORES else (_odd(kind),))


def _of_head(network: KerasNetwork, kind: str, before: Tensor, probes: Tensor, threshold: float | None) -> Ended:
    several = before.shape[1] > 1
    scores = _opened(network, kind, before, probes)
    if scores is None:
        note = (
            f"The {kind} that the model ends with could not be taken off: the logarithm of its probabilities is "
            "attacked, which has no gradient where they are 0 or 1."
        )
        if kind == "sigmoid" and several:
            return Ended(LogOdds(network), "logits", (note, _LABELS))
        whole = LogProbabilities(network) if threshold is None else ThresholdedProbability(network, threshold)
        return Ended(whole, "probabilities", (note,))
    if kind == "sigmoid" and several:
        return Ended(scores, "logits", (_LABELS,))
    note = f"The {kind} that the model ends with is computed as its logarithm, which has gradients everywhere."
    logs = nn.LogSoftmax(1) if kind == "softmax" else TwoLogs(threshold)
    return Ended(nn.Sequential(scores, logs), "probabilities", (note,))


class TwoLogs(nn.Module):
    """The logarithms of both probabilities of two classes, `[N, 1]` -> `[N, 2]`, from the score before a sigmoid.

    With a `threshold` class 1 is what has a probability above it, and the two are equal there. Raises `BadInput` for
    one that is not between 0 and 1.
    """

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__()
        if threshold is not None and not 0 < threshold < 1:
            raise BadInput(
                f"threshold is {threshold}, expected a probability above 0 and below 1: class 1 is what lies above it."
            )
        self.threshold = threshold

    def forward(self, score: Tensor) -> Tensor:
        """Return `[log(1 - p), log p]`."""
        logs = torch.cat([F.logsigmoid(-score), F.logsigmoid(score)], 1)
        if self.threshold is None:
            return logs
        at = logs.new_tensor([math.log1p(-self.threshold), math.log(self.threshold)])
        return (logs - at).log_softmax(1)

    def extra_repr(self) -> str:
        """Say which threshold it is."""
        return f"threshold={self.threshold!r}"


def _odd(kind: str) -> str:
    if kind in ("relu", "relu6"):
        why = "scores of 0 have no gradient, and where all are 0 class 0 wins"
    else:
        why = "they may be bounded, and then their gradients vanish at the bounds"
    return (
        f"The model ends with {kind}: its answers are neither logits nor probabilities, and are attacked as they are; "
        f"{why}. Attacks that ask for scores alone (square) show whether gradients misled."
    )


def _opened(network: KerasNetwork, kind: str, before: Tensor, probes: Tensor) -> KerasNetwork | None:
    """Return the network without its last activation, or None where its answers are not those of the network."""
    (model,) = network.program
    found = opened(model, model.outputs[0])
    if found is None:
        return None
    scores = KerasNetwork(found.model, network.images, network.scale)
    after = _answers(scores, probes)
    if after.shape == before.shape:
        again = after.softmax(1) if kind == "softmax" else after.sigmoid()
        apart = before.gather(1, after.argmax(1, keepdim=True)) < before.amax(1, keepdim=True) - _CLOSE
        if float((again - before).abs().max()) <= _CLOSE and not bool(apart.any()):
            return scores
    found.undo()
    return None


def _answers(network: nn.Module, probes: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = network(probes)
    return output


def ending(output: Any) -> str:
    """Return the activation that a symbolic output comes out of: softmax, sigmoid, relu, ...; "linear" for none."""
    return _kind(_last(output)[0])


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model without its last activation; `undo` puts that back where it was taken out of the layer itself."""

    model: Any
    undo: Callable[[], None] = lambda: None


def opened(model: Any, output: Any) -> Opened | None:
    """Return a model of one output without the softmax or sigmoid that it ends with, or None where that cannot be had.

    What comes back has to be compared with the model: a layer may be used in other places too.
    """
    import keras

    operation, behind = _last(output)
    if isinstance(operation, keras.Layer) and getattr(operation, "activation", None) is not None:
        before = operation.activation
        operation.activation = keras.activations.linear
        return Opened(model, lambda: setattr(operation, "activation", before))
    if behind is None and operation is output._keras_history.operation:
        return Opened(keras.Model(model.inputs, operation.input))
    return None


def _last(output: Any) -> tuple[Any, Any]:
    """Return the operation that gives the scores, and the first one behind it, which only lays them out another way."""
    behind, operation = None, output._keras_history.operation
    while True:
        if getattr(operation, "outputs", None) is not None:
            if len(operation.outputs) != 1:
                return operation, behind
            behind, operation = operation, operation.outputs[0]._keras_history.operation
        elif _only_lays_out(operation):
            behind, operation = operation, operation.input._keras_history.operation
        else:
            return operation, behind


def _only_lays_out(operation: Any) -> bool:
    idle = type(operation).__name__ == "Activation" and _kind(operation) == "linear"
    return idle or type(operation).__name__ in _BEHIND


def _kind(operation: Any) -> str:
    name = type(operation).__name__.lower()
    if name in HEADS:
        return name if getattr(operation, "axis", -1) in (-1, 1) else "linear"
    activation = getattr(operation, "activation", None)
    if activation is None:
        return "linear"
    return str(getattr(activation, "__name__", None) or type(activation).__name__).lower()
