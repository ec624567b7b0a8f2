"""Whether a model's answers agree with another numbering of the classes than the labels have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assay.data.class_orders import Renumbering
from assay.statistics import wilson

_CONFIDENCE = 0.99
_EXPLAINED = 0.5


def better_order(logits: Tensor, y: Tensor, orders: Sequence[Renumbering]) -> str:
    """Return which of the `orders` the answers explain clearly better than the labels `y`, and what to write; or ""."""
    answers = logits.argmax(1)
    right = int((answers == y).sum())
    best, most = None, right
    for one in orders:
        other = renumbered(y, one)
        if int(other.max()) >= logits.shape[1]:
            continue
        agreeing, moved = answers == other, other != y
        # only images whose label moves can tell the orders apart
        for_it, against = int((agreeing & moved).sum()), int(((answers == y) & moved).sum())
        explains = for_it >= _EXPLAINED * int(moved.sum())
        if explains and wilson(for_it, for_it + against, _CONFIDENCE)[0] > _EXPLAINED and int(agreeing.sum()) > most:
            best, most = one, int(agreeing.sum())
    if best is None:
        return ""
    new, old = (f"{100 * count / len(y):.1f} %" for count in (most, right))
    return f"The model agrees with {new} of labels {best.how}, and with {old} as they are: say {best.advice}"


def renumbered(y: Tensor, order: Renumbering) -> Tensor:
    """Return the labels that `order` gives to images of labels `y`."""
    new = dict(order.new_label)
    return torch.tensor([new[label] for label in y.tolist()], device=y.device)
