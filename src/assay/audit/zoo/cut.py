"""What cuts a gradient without an error: the graph reaches the image, and its slope is zero."""

from __future__ import annotations

from torch import Tensor


def without_slope(there: Tensor, x: Tensor) -> Tensor:
    """Return `there`, exactly, with a gradient towards `x` that exists and is zero everywhere.

    A plain `detach` would make autograd raise, which nobody overlooks; this is how a slip goes unnoticed.
    """
    return there.detach().to(x) + (x - x)
