"""What a model may answer: logits, one row of class scores per image, or one score per image for two classes."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.errors import ModelError

# how records say it
ONE_SCORE = "one score per image"

_SUM = 2**-7
"""How far from 1 a row of probabilities may sum. Rounding probabilities to bfloat16 moves their sum by up to 2**-8, and
dividing by a sum in bfloat16 as much again; float16 is eight times finer, and float32 is off by far less."""


def checked_logits(output: object, n: int) -> Tensor:
    """Return the model's output as logits `[n, K]`, or raise `ModelError` saying what came instead.

    One score per image (`[n, 1]`, `[n]`, or a number for one image) is the logits `[0, score]`: class 1 above 0.
    """
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The model returned a {type(output).__name__}, expected one tensor of logits [N, K]. "
            "Wrap it in a module whose forward returns the logits alone."
        )
    one = gives_one_score(output, n)
    if not (one or (output.ndim == 2 and len(output) == n)) or not output.is_floating_point():
        raise ModelError(
            f"The model returned {list(output.shape)} of {output.dtype} for {n} images, expected floating-point logits "
            f"[{n}, K]. Wrap it in a module whose forward returns one row of class scores per image."
        )
    output = output if output.dtype.itemsize > 2 else output.float()
    if one:
        return _two_sided(output.reshape(n, 1))
    if output.shape[1] < 2:
        raise ModelError(
            f"The model returned no score ([{n}, {output.shape[1]}]), expected two classes or more, or one score per "
            "image [N, 1] for two classes. Wrap it in a module whose forward returns the class scores."
        )
    return output


def gives_one_score(output: object, n: int) -> bool:
    """Whether an output for `n` images is one score for each: `[n, 1]`, `[n]`, or a number for one image."""
    return isinstance(output, Tensor) and output.shape in ((n, 1), (n,), () if n == 1 else (n,))


def sum_to_one(scores: Tensor) -> Tensor:
    """Return which rows of scores `[N, K]` are probabilities: none below 0, and a sum of 1. Bool `[N]`.

    Probabilities rounded to float16 or bfloat16 are known as such. Rows with NaN are none, nor is a single score.
    """
    return (scores >= 0).all(1) & ((scores.sum(1) - 1).abs() < _SUM) & (scores.shape[1] > 1)


def sum_to_hundred(scores: Tensor) -> Tensor:
    """Return which rows of scores `[N, K]` are percentages: none below 0, and a sum of 100. Bool `[N]`."""
    return sum_to_one(scores / 100)


def _two_sided(score: Tensor) -> Tensor:
    # an infinite score is an overflow on either side: beside NaN it has no order
    zero = torch.zeros_like(score)
    return torch.cat([torch.where(score.isfinite(), zero, torch.full_like(zero, torch.nan)), score], 1)
