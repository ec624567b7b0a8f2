"""A Keras model on its torch backend as a module that owns its weights, and what images such a model wants."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_A_BYTE = 1 / 32
"""Factors up to this one bring bytes, 0 to 255, to a range: 1/255, 1/127.5, or 1/58 and 1/51 by what they vary."""

_BRIGHT = 2.0
"""A mean above this one is no mean of pixels in [0, 1] or [-1, 1]."""

# what may stand between an input and the layer that rescales it: images are as bright behind it
_PASSED = frozenset({"Resizing", "CenterCrop", "ZeroPadding2D", "Cropping2D", "Reshape", "Dropout", "Identity"})


@dataclasses.dataclass(frozen=True)
class InputLayout:
    """What images a network takes: `order` is "last" or "first" (where the channels stand), or "none" (there are none).

    A side that it leaves open is None.
    """

    order: str
    channels: int
    height: int | None
    width: int | None

    def laid_out(self, images: Tensor) -> Tensor:
        """Return images `[N, C, H, W]` as the network takes them."""
        if self.order == "none":
            return images[:, 0]
        return images.permute(0, 2, 3, 1) if self.order == "last" else images


def input_layout(shape: tuple[int | None, ...]) -> InputLayout | None:
    """Return what a model of this input shape, batch included, takes; None where those are no images of 1, 3, 4 bands.

    Channels stand last where both ends could be them, as is Keras' own way.
    """
    rest = tuple(shape[1:])
    if len(rest) == 2:
        return InputLayout("none", 1, rest[0], rest[1])
    if len(rest) != 3:
        return None
    if rest[2] in (1, 3, 4):
        return InputLayout("last", rest[2], rest[0], rest[1])
    if rest[0] in (1, 3, 4):
        return InputLayout("first", rest[0], rest[1], rest[2])
    return None


class KerasNetwork(nn.Module):
    """A Keras model (torch backend): images `[N, C, H, W]` in [0, 1] -> its scores `[N, K]`, as in eval mode.

    The weights are this module's own parameters, in float32, and are put under the layers for the time of a call: so
    whatever holds, copies or moves a module does with this one what it says. They take no gradients of their own.
    `scale` is what images are multiplied by first: 255 for a model that rescales bytes inside.
    """

    def __init__(self, model: Any, images: InputLayout, scale: float = 1.0) -> None:
        super().__init__()
        # in a tuple, or the layers would be modules of this one, with weights of their own
        self.program = (model,)
        self.images = images
        self.scale = scale
        in_float32(model)
        self.weights = nn.Module()
        self.variables = tuple(_float_variables(model))
        for at, variable in enumerate(self.variables):
            value = variable.value.detach()
            name = f"{at:03d} {variable.path}".replace(".", "_")
            self.weights.register_parameter(name, nn.Parameter(value.float(), requires_grad=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the model's one output."""
        (model,) = self.program
        values = list(self.weights.parameters())
        images = self.images.laid_out(x if self.scale == 1 else x * self.scale)
        with calling(str(x.device), self.variables, values):
            output: Tensor = model(images, training=False)
        return output.reshape(len(x), -1) if _flat(output) else output

    def extra_repr(self) -> str:
        """Say what is done to images before the model sees them."""
        return f"channels {self.images.order}, scale={self.scale:g}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KerasNetwork:
        # Keras' operations turn what is float64 into float32 on their way, without a word: no copy would be finer
        if fn(torch.zeros(1)).dtype is not torch.float32:
            raise NotImplementedError("a Keras model computes in float32 alone")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch gives it no types
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> KerasNetwork:
        """Return a network with weights of its own; the layers, which hold none, are shared."""
        copy = KerasNetwork.__new__(KerasNetwork)
        memo[id(self)] = copy
        nn.Module.__init__(copy)
        copy.program, copy.images, copy.scale, copy.variables = self.program, self.images, self.scale, self.variables
        copy.weights = nn.Module()
        for name, value in self.weights._parameters.items():
            assert value is not None
            copy.weights.register_parameter(name, nn.Parameter(value.detach().clone(), requires_grad=False))
        return copy.train(self.training)


def _float_variables(model: Any) -> Iterator[Any]:
    # counters and the seeds of layers that draw, in training, stay where they are
    for variable in (*model.trainable_variables, *model.non_trainable_variables):
        if variable.value.is_floating_point():
            yield variable


def _flat(output: Tensor) -> bool:
    return output.ndim > 2 and math.prod(output.shape[1:]) == max(output.shape[1:])


@contextlib.contextmanager
def calling(device: str, variables: tuple[Any, ...], values: list[nn.Parameter]) -> Iterator[None]:
    """Let Keras compute on `device` and with these values of its variables, and count no losses."""
    import keras

    # it copies what lies elsewhere to the device that it takes for the right one, a GPU where there is one
    with keras.device(device), keras.StatelessScope() as scope:
        # what it is told when it is made it casts to the precision of the variables
        for variable, value in zip(variables, values, strict=True):
            scope.state_mapping[id(variable)] = value
        yield


def in_float32(model: Any) -> None:
    """Let every layer compute in float32: half precision, and a user's own default, are not for measuring."""
    for layer in model._flatten_layers():
        if layer.compute_dtype != "float32" and getattr(layer.dtype_policy, "quantization_mode", None) is None:
            layer.dtype_policy = "float32"


def precisions(model: Any) -> list[str]:
    """Return the precisions other than float32 in which layers of a model compute or keep weights."""
    names = {name for layer in model._flatten_layers() for name in (layer.compute_dtype, layer.variable_dtype)}
    return sorted(name for name in names if name not in (None, "float32"))


def bytes_expected(model: Any) -> str:
    """Return what in a model brings bytes to a network's range, so that it wants 0 to 255; "" where nothing does."""
    for operation in _in_order(model):
        kind = type(operation).__name__
        if kind not in _PASSED and kind != "InputLayer" and not kind.startswith("Random"):
            return _rescaling(operation, kind)
    return ""


def _in_order(model: Any) -> Iterator[Any]:
    for operation in getattr(model, "operations", None) or model.layers:
        if hasattr(operation, "layers"):
            yield from _in_order(operation)
        else:
            yield operation


def _rescaling(operation: Any, kind: str) -> str:
    name = operation.name
    if kind == "Rescaling":
        scale = float(np.abs(np.asarray(operation.scale, dtype=float)).max())
        return f"its layer {name} multiplies by {scale:.4g}" if scale <= _A_BYTE else ""
    if kind == "Normalization" and operation.mean is not None:
        mean = float(operation.mean.abs().max())
        return f"its layer {name} takes away a mean of {mean:.4g}" if mean > _BRIGHT else ""
    if kind in ("TrueDivide", "Divide", "Multiply") and operation._inbound_nodes:
        numbers = [one for one in operation._inbound_nodes[0].arguments.args if isinstance(one, (int, float))]
        factor = numbers[0] if len(numbers) == 1 else 1.0
        if 0 < (factor if kind == "Multiply" else 1 / factor if factor else 1.0) <= _A_BYTE:
            return f"it {'multiplies' if kind == 'Multiply' else 'divides'} by {factor:.4g}"
    return ""
