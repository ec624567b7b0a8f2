"""Which arithmetic a network is computed in, and whether the bound of its rounding holds there."""

from __future__ import annotations

import operator

import torch

from assay.core.errors import BadInput

UNITS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
"""The unit roundoff of each type that bounds of rounding are for."""

_SHORT = ("tf32", "bf16")


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
