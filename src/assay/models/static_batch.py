"""Programs that take a fixed number of images, or no fewer and no more than they were made for, for any number."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn


class StaticBatch(nn.Module):
    """A module that takes `rows` images at most and `least` at least (default: as many), for any number of them.

    The last batch is filled with its last image. `[N, C, H, W]` -> logits `[N, K]`. Rows have to be independent of
    their neighbours, as those of a classifier in eval mode are.
    """

    def __init__(self, module: nn.Module, rows: int, least: int | None = None) -> None:
        super().__init__()
        self.module = module
        self.rows = rows
        self.least = rows if least is None else least

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, from as many calls as it takes."""
        over = len(x) % self.rows
        missing = max(0, self.least - over) if over else 0
        whole = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x
        parts = [self.module(whole[at : at + self.rows].contiguous()) for at in range(0, len(whole), self.rows)]
        logits: Tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        return logits[: len(x)] if missing else logits

    def extra_repr(self) -> str:
        """Say how many images a call takes."""
        return f"rows={self.rows}" + ("" if self.least == self.rows else f", least={self.least}")


def static_rows(module: nn.Module) -> int | None:
    """Return how many images an exported program was made for; None where it takes any number, or is none."""
    if not isinstance(module, fx.GraphModule):
        return None
    inputs = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not inputs[0].ndim:
        return None
    rows = inputs[0].shape[0]
    # a batch of any size is a symbol
    return rows if type(rows) is int else None


def filled(rows: np.ndarray[Any, Any], batch: int | None) -> np.ndarray[Any, Any]:
    """Return rows `[N, ...]` filled up with copies of the last to a multiple of `batch`; None takes any number."""
    missing = 0 if batch is None else -len(rows) % batch
    return np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]) if missing else rows


def fixed_batch_note(rows: int) -> str:
    """Return what is said of an exported program that takes `rows` images in a call."""
    return (
        f"The exported program takes batches of {rows} alone: others are filled up with copies and cut again. "
        "Exported with a dynamic batch (torch.export.Dim), it is faster."
    )
