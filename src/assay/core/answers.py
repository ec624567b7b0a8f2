"""What a model may answer: logits, one row of class scores per image."""

from __future__ import annotations

from torch import Tensor

from assay.core.errors import ModelError


def checked_logits(output: object, n: int) -> Tensor:
    """Return the model's output as logits `[n, K]`, or raise `ModelError` saying what came instead."""
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The model returned a {type(output).__name__}, expected one tensor of logits [N, K]. "
            "Wrap it in a module whose forward returns the logits alone."
        )
    if output.ndim != 2 or len(output) != n or not output.is_floating_point():
        raise ModelError(
            f"The model returned {list(output.shape)} of {output.dtype} for {n} images, expected floating-point logits "
            f"[{n}, K]. Wrap it in a module whose forward returns one row of class scores per image."
        )
    if output.shape[1] < 2:
        raise ModelError(
            f"The model returned one score per image ([{n}, {output.shape[1]}]), expected two classes or more. "
            "Wrap a binary model so that it returns the logits [0, score]."
        )
    return output if output.dtype.itemsize > 2 else output.float()
