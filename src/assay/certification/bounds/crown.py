"""CROWN: linear lower bounds of the logits, propagated backwards through the network. Zhang et al. 2018.

Through a ReLU whose input lies in [l, u] with l < 0 < u, a coefficient above 0 takes the line a h with a = 1 where
u > -l, else 0, and one below 0 the line u (h - l) / (u - l). Rows of a convolution are windows: each sees few values.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from assay.certification.bounds.graph import Graph, Node
from assay.certification.bounds.interval import Interval, interval_step
from assay.certification.bounds.operations import Convolution, Linear, Relu, Sum
from assay.certification.bounds.region import Region
from assay.certification.bounds.rows import Rows

# values in one chunk of rows, if they are dense in the largest layer: 8 MiB in double precision
_CHUNK = 1_000_000

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
        lower, upper, intercept = torch.chunk(rows.seen(self._together), 3, 1)
        slope = torch.where(rows.values > 0, lower if slopes is None else slopes, upper)
        below = rows.values.clamp_max(0).flatten(1)
        shared = len(intercept) == 1
        added = below @ intercept.flatten() if shared else (below * intercept.flatten(1)).sum(1)
        return rows.with_values(rows.values * slope, rows.corner), added

    @functools.cached_property
    def _together(self) -> Tensor:
        # rows look them up at once
        return torch.cat([self.lower, self.upper, self.intercept], 1)


@dataclasses.dataclass
class Work:
    """Multiplications done for the rows of each image on their way backwards, float64 `[N]`; None counts nothing."""

    products: Tensor | None = None

    @staticmethod
    def on(images: Tensor) -> Work:
        """Return no work yet, for these images."""
        return Work(torch.zeros(len(images), dtype=torch.float64, device=images.device))

    def add(self, rows: Rows, each: float) -> None:
        """Count `each` multiplications for each row."""
        if self.products is not None:
            self.products.index_add_(0, rows.image, self.products.new_full((len(rows.image),), each))

    def passes(self, graph: Graph) -> Tensor:
        """Return it as passes of the network, int64 `[N]`, rounded up."""
        assert self.products is not None, "it was counted"
        return (self.products / graph.products).ceil().long()

    def again(self, times: int, before: Tensor | None) -> None:
        """Count so many times again what was done since there was `before`."""
        if self.products is not None and before is not None:
            self.products += times * (self.products - before)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Bounds of every node's values over a region (`known`, the image's first), and the lines of every ReLU.

    `lost` (`[N, K]`) is what the computation of a row of the logits can lose of each by rounding: a part of the sum of
    the sizes of all that is added up for it, over all layers.
    """

    known: tuple[Interval, ...]
    lines: Mapping[int, Lines]
    lost: Tensor


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
    total, products = rows.values.new_zeros(len(rows.values)), 0
    added: Tensor | float
    for number in range(first, 0, -1):
        if number not in waiting:
            continue
        here, node = waiting.pop(number), graph.nodes[number - 1]
        products += here.values[:1].numel() * max(1, node.operation.terms)
        if isinstance(node.operation, Relu):
            before, added = lines[number].through(here, None if slopes is None else slopes[number])
            parts: tuple[Rows, ...] = (before,)
        else:
            parts, added = node.operation.backward(here), node.operation.constant(here)
        total = total + added
        for i, part in zip(node.inputs, parts, strict=True):
            waiting[i] = waiting[i].plus(part, graph.shape_of(i)) if i in waiting else part
    work.add(rows, products)
    return total + region.lowest(waiting[0])


def bounds_over(graph: Graph, region: Region, work: Work, *, backwards: bool = True) -> Bounds:
    """Return bounds of every node's values over the region, `graph` in double precision.

    With `backwards` the inputs of a ReLU that intervals leave undecided are bounded by CROWN. Else intervals bound all,
    but of a ball that is no box the values of the first layer: these their rows' dual norms bound.
    """
    at_x = graph.values(region.x) if backwards else []
    known, lines = [region.box], dict[int, Lines]()
    slack = torch.zeros_like(region.x)
    sizes, terms = [torch.maximum(region.low.abs(), region.high.abs())], 0
    mixed = _layers_mixed(graph)
    before_relu = {i for node in graph.nodes if isinstance(node.operation, Relu) for i in node.inputs}
    for number, node in enumerate(graph.nodes, 1):
        if isinstance(node.operation, Relu):
            lines[number] = Lines.around(known[node.inputs[0]])
        step = interval_step(node, known)
        one = _Pass(graph, region, lines, work, number)
        if backwards and number in before_relu and (mixed[number] > 1 or region.round):
            step = one.decided(step, at_x[number])
        elif not backwards and region.round and mixed[number] == 1 and _mixes(node):
            step = one.both_sides(step)
        sizes.append(node.operation.magnitude(*(sizes[i] for i in node.inputs)))
        terms += node.operation.terms + 8
        slack = 2 * terms * _DOUBLE * sizes[-1]
        known.append(Interval(step.low - slack, step.high + slack))
    return Bounds(tuple(known), lines, slack)


def chunk_of(graph: Graph, number: int) -> int:
    """Return how many rows of a node go backwards at once."""
    return max(1, _CHUNK // max(math.prod(graph.shape_of(i)) for i in range(number + 1)))


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


def lowest_leads(graph: Graph, region: Region, bounds: Bounds, rows: Rows, work: Work, *, steps: int = 0) -> Tensor:
    """Return lower bounds `[R]` of rows of the logits, with `steps` of gradient ascent on the lower slopes.

    With steps it is alpha-CROWN (Xu et al. 2021): every slope between 0 and 1 gives a bound, each row has slopes of its
    own, and keeps its best.
    """
    size, last = chunk_of(graph, len(graph.nodes)), len(graph.nodes)
    found = [rows.values.new_empty(0)]
    for values, image in zip(torch.split(rows.values, size), torch.split(rows.image, size), strict=True):
        part = Rows(values, image)
        if steps:
            found.append(_ascended(graph, region, bounds, part, work, steps))
        else:
            found.append(lowest(graph, region, bounds.lines, (last, part), work))
    return torch.cat(found)


# of Adam on slopes between 0 and 1
_RATE = 0.25


def _ascended(graph: Graph, region: Region, bounds: Bounds, rows: Rows, work: Work, steps: int) -> Tensor:
    first = {number: line.lower[rows.image] for number, line in bounds.lines.items()}
    split = {number: (line.intercept > 0)[rows.image] for number, line in bounds.lines.items()}
    slopes = {number: slope.clone().requires_grad_() for number, slope in first.items()}
    best = rows.values.new_full((len(rows.values),), -math.inf)
    if not slopes:
        return lowest(graph, region, bounds.lines, (len(graph.nodes), rows), work)
    optimiser = torch.optim.Adam(list(slopes.values()), _RATE)
    for step in range(steps + 1):
        before = None if work.products is None else work.products.clone()
        with torch.enable_grad():
            least = lowest(graph, region, bounds.lines, (len(graph.nodes), rows), work, slopes)
            loss = least.sum().neg()
        best = torch.maximum(best, least.detach())
        if step == steps:
            return best
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        # a gradient costs as much as two more of what it is of
        work.again(2, before)
        optimiser.step()
        with torch.no_grad():
            for number, slope in slopes.items():
                slope.copy_(torch.where(split[number], slope.clamp(0, 1), first[number]))
    return best


@dataclasses.dataclass(frozen=True)
class _Pass:
    # what rows of a node need on their way backwards
    graph: Graph
    region: Region
    lines: Mapping[int, Lines]
    work: Work
    number: int

    def lowest(self, which: Tensor, signs: Tensor) -> Tensor:
        """Return lower bounds `[R]` of values of the node (`which`, int64 `[R, 2]`: image, place) times `signs`."""
        if not len(which):
            return signs.new_empty(0)
        found, size = [signs.new_empty(0)], chunk_of(self.graph, self.number)
        for part, sign in zip(torch.split(which, size), torch.split(signs, size), strict=True):
            rows = _one_each(self.graph.shape_of(self.number), part, sign)
            found.append(lowest(self.graph, self.region, self.lines, (self.number, rows), self.work))
        return torch.cat(found)

    def both_sides(self, bounds: Interval) -> Interval:
        """Return bounds of which every value is bounded by its own row too, from both sides."""
        every = torch.ones_like(bounds.low, dtype=torch.bool).flatten(1).nonzero()
        ones = bounds.low.new_ones(len(every))
        least, most = self.lowest(every, ones), -self.lowest(every, -ones)
        low, high = bounds
        return Interval(torch.maximum(low, least.view_as(low)), torch.minimum(high, most.view_as(high)))

    def decided(self, bounds: Interval, at_x: Tensor) -> Interval:
        """Return bounds of which undecided values are bounded from the side that could decide them.

        A value that is below 0 at `x` can only be below 0 everywhere, or undecided: the other side is looked at last.
        """
        low, high = (side.flatten(1).clone() for side in bounds)
        chosen = ((low < 0) & (high > 0)).nonzero()
        for other_side in (False, True):
            image, at = chosen.unbind(1)
            below = (at_x.flatten(1)[image, at] < 0) ^ other_side
            least = self.lowest(chosen, 1.0 - 2.0 * below.to(low.dtype))
            low[image, at] = torch.where(below, low[image, at], torch.maximum(low[image, at], least))
            high[image, at] = torch.where(below, torch.minimum(high[image, at], -least), high[image, at])
            chosen = chosen[(low[image, at] < 0) & (high[image, at] > 0)]
        return Interval(low.view_as(bounds.low), high.view_as(bounds.high))


def _one_each(shape: tuple[int, ...], which: Tensor, signs: Tensor) -> Rows:
    # rows that are one value of a layer each (`which`: image and place); of an image-like layer as windows of one pixel
    (image, at), signs = which.unbind(1), signs[:, None]
    if len(shape) != 3:
        values = signs.new_zeros(len(at), math.prod(shape))
        return Rows(values.scatter(1, at[:, None], signs).view(-1, *shape), image)
    area = shape[1] * shape[2]
    channel, place = at // area, at % area
    corner = torch.stack([place // shape[2], place % shape[2]], 1)
    values = signs.new_zeros(len(at), shape[0]).scatter(1, channel[:, None], signs)
    return Rows(values[:, :, None, None], image, corner)


def _mixes(node: Node) -> bool:
    return isinstance(node.operation, (Convolution, Linear, Sum))


def _layers_mixed(graph: Graph) -> list[float]:
    # by how many layers that add up values each node stands behind the image; behind a ReLU endlessly many
    mixed = [0.0]
    for node in graph.nodes:
        own = math.inf if isinstance(node.operation, Relu) else _mixes(node)
        mixed.append(max(mixed[i] for i in node.inputs) + own)
    return mixed
