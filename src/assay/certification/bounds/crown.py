"""CROWN: linear lower bounds of the logits, propagated backwards through the network. Zhang et al. 2018.

Through a ReLU whose input lies in [l, u] with l < 0 < u, a coefficient above 0 takes the line a h with a = 1 where
u > -l, else 0, and one below 0 the line u (h - l) / (u - l). Rows of a convolution are windows: each sees few values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from assay.certification.bounds.graph import Graph
from assay.certification.bounds.interval import Interval, interval_step
from assay.certification.bounds.operations import Convolution, Linear, Relu, Sum
from assay.certification.bounds.region import Region
from assay.certification.bounds.rows import Rows

# values in one chunk of rows, if they are dense in the largest layer: 32 MiB in double precision
_CHUNK = 4_000_000

# the unit roundoff of double precision, in which bounds are computed
_DOUBLE = 2.0**-53


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines around a ReLU for each value of its input (`[N, *S]`): two slopes, and the upper one's intercept."""

    lower: Tensor
    upper: Tensor
    intercept: Tensor

    @staticmethod
    def around(bounds: Interval) -> Lines:
        """Return the lines for inputs between bounds; the lower one is 0 or the value itself, whichever is nearer."""
        low, high = bounds
        split = (low < 0) & (high > 0)
        slope = torch.where(split, high / torch.where(split, high - low, 1.0), (low >= 0).to(low.dtype))
        lower = torch.where(split, (high > -low).to(low.dtype), slope)
        return Lines(lower, slope, torch.where(split, -low * slope, 0.0))

    def through(self, rows: Rows, slopes: Tensor | None = None) -> tuple[Rows, Tensor]:
        """Return rows of the ReLU's output as rows of its input, and what is added `[R]`.

        `slopes` (`[R, *S]`, for dense rows) replace the lower ones.
        """
        above, below = rows.values.clamp_min(0), rows.values.clamp_max(0)
        lower = rows.seen(self.lower) if slopes is None else slopes
        added = (below * rows.seen(self.intercept)).flatten(1).sum(1)
        return rows.with_values(above * lower + below * rows.seen(self.upper), rows.corner), added


@dataclasses.dataclass
class Work:
    """Multiplications done for rows on their way backwards."""

    products: float = 0.0


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Bounds of every node's values over a region (`known`, the image's first), and the lines of every ReLU.

    `sizes` bound the sums of the sizes of all that is added up for a value, over all layers: what the rounding of
    double precision grows with.
    """

    known: tuple[Interval, ...]
    lines: Mapping[int, Lines]
    sizes: tuple[Tensor, ...]


def lowest(
    graph: Graph,
    region: Region,
    lines: Mapping[int, Lines],
    start: tuple[int, Rows],
    work: Work,
    slopes: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """Return lower bounds `[R]` of rows over the region; `start` is the node that they are functions of, and the rows.

    `lines` are those of each ReLU before it, by number; `slopes` replace their lower ones, see `Lines.through`.
    """  # fmt: skip
    first, rows = start
    waiting = {first: rows}
    total = rows.values.new_zeros(len(rows.values))
    for number in range(first, 0, -1):
        if number not in waiting:
            continue
        here, node = waiting.pop(number), graph.nodes[number - 1]
        work.products += here.values.numel() * max(1, node.operation.terms)
        if isinstance(node.operation, Relu):
            before, added = lines[number].through(here, None if slopes is None else slopes[number])
            parts: tuple[Rows, ...] = (before,)
        else:
            parts, added = node.operation.backward(here), node.operation.constant(here)
        total = total + added
        for i, part in zip(node.inputs, parts, strict=True):
            waiting[i] = waiting[i].plus(part, graph.shape_of(i)) if i in waiting else part
    return total + region.lowest(waiting[0])


def bounds_over(graph: Graph, region: Region, work: Work, *, backwards: bool = True) -> Bounds:
    """Return bounds of every node's values over the region, `graph` in double precision.

    With `backwards` the inputs of a ReLU that intervals leave undecided are bounded by CROWN, else by intervals alone.
    Of a ball that is no box, the first layer is bounded by its rows' dual norms in any case.
    """
    known, lines = [region.box], dict[int, Lines]()
    sizes, terms = [torch.maximum(region.low.abs(), region.high.abs())], 0
    mixed = _layers_mixed(graph)
    before_relu = {i for node in graph.nodes if isinstance(node.operation, Relu) for i in node.inputs}
    for number, node in enumerate(graph.nodes, 1):
        if isinstance(node.operation, Relu):
            lines[number] = Lines.around(known[node.inputs[0]])
        low, high = interval_step(node, known)
        which = None
        if region.round and mixed[number] == 1 and isinstance(node.operation, (Convolution, Linear)):
            which = torch.ones_like(low, dtype=torch.bool)
        elif backwards and number in before_relu and mixed[number] > 1:
            which = (low < 0) & (high > 0)
        if which is not None:
            low, high = _tightened(graph, region, lines, number, Interval(low, high), which, work)
        sizes.append(node.operation.magnitude(*(sizes[i] for i in node.inputs)))
        terms += node.operation.terms + 8
        slack = lost(terms, sizes[-1])
        known.append(Interval(low - slack, high + slack))
    return Bounds(tuple(known), lines, tuple(sizes))


def lost(terms: int, sizes: Tensor) -> Tensor:
    """Return what sums of so many terms, of these sizes, can lose by rounding in double precision."""
    return 2 * terms * _DOUBLE * sizes


def label_rows(graph: Graph, y: Tensor) -> Rows:
    """Return for each image (label `y`, int64 `[N]`) the rows that say how far its label leads every other class.

    Of N images with K classes N (K - 1) rows, ordered by image, then by class.
    """
    classes = graph.classes
    one = torch.eye(classes, dtype=torch.float64, device=y.device)
    others = other_classes(y, classes)
    values = one[y][:, None] - one[others]
    image = torch.arange(len(y), device=y.device).repeat_interleave(classes - 1)
    return Rows(values.flatten(0, 1), image)


def other_classes(y: Tensor, classes: int) -> Tensor:
    """Return int64 `[N, K - 1]`: the classes that are not the label."""
    every = torch.arange(classes, device=y.device).expand(len(y), -1)
    return every[every != y[:, None]].view(len(y), classes - 1)


def ascended(
    graph: Graph, region: Region, bounds: Bounds, rows: Rows, work: Work, *, steps: int, rate: float = 0.25
) -> Tensor:
    """Return lower bounds `[R]` of rows of the logits with lower slopes found by gradient ascent: alpha-CROWN.

    Xu et al. 2021. Every slope between 0 and 1 gives a bound; each row keeps its best of `steps` and the first.
    """
    start = (len(graph.nodes), rows)
    split = {number: (line.intercept > 0)[rows.image] for number, line in bounds.lines.items()}
    slopes = {number: line.lower[rows.image].requires_grad_() for number, line in bounds.lines.items()}
    optimiser = torch.optim.Adam(list(slopes.values()), rate)
    best = rows.values.new_full((len(rows.values),), -math.inf)
    for step in range(steps + 1):
        with torch.enable_grad():
            least = lowest(graph, region, bounds.lines, start, work, slopes)
        best = torch.maximum(best, least.detach())
        if step == steps:
            break
        optimiser.zero_grad()
        least.sum().neg().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            for number, slope in slopes.items():
                slope.copy_(torch.where(split[number], slope.clamp(0, 1), bounds.lines[number].lower[rows.image]))
    return best


def _tightened(
    graph: Graph, region: Region, lines: Mapping[int, Lines], number: int, bounds: Interval, which: Tensor, work: Work
) -> Interval:
    # the values `which` of a node, by their own rows
    low, high = (side.flatten(1).clone() for side in bounds)
    most = max(math.prod(graph.shape_of(i)) for i in range(number + 1))
    for part in which.flatten(1).nonzero().split(max(1, _CHUNK // (2 * most))):
        rows = _one_each(graph.shape_of(number), part, low.dtype)
        corner = None if rows.corner is None else rows.corner.repeat(2, 1)
        both = Rows(torch.cat([rows.values, -rows.values]), rows.image.repeat(2), corner)
        least, negative = lowest(graph, region, lines, (number, both), work).chunk(2)
        image, at = part.unbind(1)
        low[image, at] = torch.maximum(low[image, at], least)
        high[image, at] = torch.minimum(high[image, at], -negative)
    return Interval(low.view_as(bounds.low), high.view_as(bounds.high))


def _one_each(shape: tuple[int, ...], which: Tensor, dtype: torch.dtype) -> Rows:
    # rows that are one value of a layer each (`which`: image and place); of an image-like layer as windows of one pixel
    image, at = which.unbind(1)
    if len(shape) != 3:
        values = torch.zeros(len(at), math.prod(shape), dtype=dtype, device=at.device)
        return Rows(values.scatter(1, at[:, None], 1.0).view(-1, *shape), image)
    area = shape[1] * shape[2]
    channel, place = at // area, at % area
    corner = torch.stack([place // shape[2], place % shape[2]], 1)
    values = torch.zeros(len(at), shape[0], dtype=dtype, device=at.device).scatter(1, channel[:, None], 1.0)
    return Rows(values[:, :, None, None], image, corner)


def _layers_mixed(graph: Graph) -> list[float]:
    # by how many layers that add up values each node stands behind the image; behind a ReLU endlessly many
    mixed = [0.0]
    for node in graph.nodes:
        own = math.inf if isinstance(node.operation, Relu) else isinstance(node.operation, (Convolution, Linear, Sum))
        mixed.append(max(mixed[i] for i in node.inputs) + own)
    return mixed
