"""How far the logits of a network in floating point can be from those in real numbers, for all images of a box.

For a sum of n products in any order, the computed value is within gamma_n times the sum of the sizes of what is added
up, gamma_n = n u / (1 - n u) (Higham 2002, section 3.1). Errors of the inputs come through the weights' sizes. Fused
multiply-adds round less often. Not covered are products in a shorter type (TF32, bfloat16), which
`refuse_short_products` looks for, and Winograd's convolution, which cuDNN may choose on GPUs for kernels of 3x3.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from assay.certification.bounds.graph import Graph
from assay.certification.bounds.interval import Interval
from assay.certification.bounds.operations import Relu
from assay.core.errors import BadInput

UNITS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
"""The unit roundoff of each type that bounds of rounding are for."""

_SHORT = ("tf32", "bf16")

# below the smallest normal number a product is off by less than this
_UNDERFLOW = 2.0**-126


def rounding_errors(graph: Graph, known: Sequence[Interval], unit: float, image: float = 0.0) -> list[Tensor]:
    """Return for each node an upper bound `[N, *S]` of |computed - real|, over the bounds `known` of its values.

    `unit` is the unit roundoff of the arithmetic, `image` that with which the image itself is rounded first.
    """
    errors = [image * _size(known[0])]
    for node in graph.nodes:
        operation, before = node.operation, [errors[i] for i in node.inputs]
        error = operation.spread(*before)
        if isinstance(operation, Relu):
            # what is below 0 in either arithmetic is 0 in both
            error = torch.where(known[node.inputs[0]].high + error > 0, error, 0.0)
        if operation.terms:
            sizes = [_size(known[i]) + errors[i] for i in node.inputs]
            # one more for the constant that is added, one for the division or the scale
            n = operation.terms + 2
            error = error + n * unit / (1 - n * unit) * operation.magnitude(*sizes) + n * _UNDERFLOW
        errors.append(error)
    return errors


def _size(one: Interval) -> Tensor:
    return torch.maximum(one.low.abs(), one.high.abs())


def refuse_short_products(device: torch.device) -> None:
    """Raise `BadInput` where torch may multiply float32 numbers in a shorter type (TF32, bfloat16, float16)."""
    if torch.is_autocast_enabled(device.type):
        raise _refused("autocast is on", "leave torch.autocast")
    for name in ("cudnn.conv", "cuda.matmul") if device.type == "cuda" else ("mkldnn.conv", "mkldnn.matmul"):
        precision = getattr(operator.attrgetter(name)(torch.backends), "fp32_precision", "ieee")
        if precision in _SHORT:
            where = f"torch.backends.{name}.fp32_precision"
            raise _refused(f"{where} is {precision!r}", f"set {where} = 'ieee'")


def _refused(what: str, fix: str) -> BadInput:
    return BadInput(
        f"Bounds of the network as deployed are for float32 products, and {what}: the network rounds more than they "
        f"allow for. Before the run, {fix}; or ask for grade real or nominal, which say nothing of what is deployed."
    )
