"""Interval bounds (IBP): how high and how low each value of a network can be, layer by layer. Gowal et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from assay.certification.bounds.graph import Graph, Node
from assay.certification.bounds.operations import Linear, Relu


class Interval(NamedTuple):
    """Lower and upper bounds of values, `[N, *S]` each."""

    low: Tensor
    high: Tensor


def interval_bounds(graph: Graph, low: Tensor, high: Tensor) -> list[Interval]:
    """Return the bounds of every node's values, those of the image (`low`, `high`, `[N, *S]`) first, the logits' last.

    Differentiable in the weights of `graph` and in the bounds of the image.
    """
    known = [Interval(low, high)]
    for node in graph.nodes:
        known.append(interval_step(node, known))
    return known


def interval_step(node: Node, known: Sequence[Interval]) -> Interval:
    """Return the bounds of a node's values, given those of the nodes before it."""
    operation = node.operation
    if isinstance(operation, Relu):
        ((low, high),) = (known[i] for i in node.inputs)
        return Interval(low.clamp_min(0), high.clamp_min(0))
    middles, radii = zip(*((_middle(known[i]), (known[i].high - known[i].low) / 2) for i in node.inputs), strict=True)
    middle, radius = operation.forward(*middles), operation.spread(*radii)
    return Interval(middle - radius, middle + radius)


def interval_margins(graph: Graph, known: Sequence[Interval], y: Tensor) -> Tensor:
    """Return lower bounds `[N, K]` of how far the logit of the label `y` (int64 `[N]`) leads each; 0 for its own.

    `known` are the bounds of `interval_bounds`. The last layer is merged with the differences, which is tighter than
    those of the logits' own bounds.
    """
    node, rows = graph.nodes[-1], torch.eye(graph.classes, dtype=known[-1].low.dtype, device=y.device)
    differences = rows[y][:, None] - rows
    if not isinstance(node.operation, Linear):
        low, high = known[-1]
        leads = low.gather(1, y[:, None]) - high
        return leads.scatter(1, y[:, None], 0.0)
    before = known[node.inputs[0]]
    weight = differences @ node.operation.weight
    middle = (weight @ _middle(before)[:, :, None]).squeeze(2)
    radius = (weight.abs() @ ((before.high - before.low) / 2)[:, :, None]).squeeze(2)
    own = 0.0 if node.operation.bias is None else differences @ node.operation.bias
    return middle - radius + own


def _middle(one: Interval) -> Tensor:
    return (one.low + one.high) / 2
