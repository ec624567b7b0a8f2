"""The geometry of the vector norms, on perturbations `[N, D]`. Nothing here knows about images.

`Threat` is the only user. A norm answers: how large is a perturbation, which direction of unit size climbs a gradient
fastest, what is the nearest perturbation inside the budget, and what is the cheapest way onto a plane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.masks import count_free, only_free
from assay.core.patch_norm import PATCH as PATCH_NORM
from assay.core.patch_norm import scaled_whole

_TINY = 1e-30


class Norm(Protocol):
    """A norm; `eps` and `length` are a number or `[N, 1]`, `room >= 0` (`[N, D]`) is how far the box lets one move."""

    name: str
    boxed: bool
    """Whether `project`, `step` or `size_needed` look at the room."""
    first_step: float
    """The Euclidean length of the first step with which FMN looks for the smallest perturbation."""

    def size(self, d: Tensor) -> Tensor:
        """Return the norm of each row, `[N]`."""

    def dual(self, g: Tensor) -> Tensor:
        """Return the dual norm of each row, `[N]`: the largest inner product with a vector of unit size."""

    def steepest(self, g: Tensor) -> Tensor:
        """Return the `[N, D]` of unit size with the largest inner product with `g` (zero where `g` is zero)."""

    def step(self, g: Tensor, room: Tensor, length: float | Tensor, free: Tensor | None = None) -> Tensor:
        """Return the change of size `length` that an iterative attack should make; `steepest` where that works.

        `free` (bool `[N, D]` or `[1, D]`) are the values that may change, if not all; `g` is 0 at the others.
        """

    def project(self, d: Tensor, eps: float | Tensor, room: Tensor) -> Tensor:
        """Return the perturbation inside the budget (and the room) that replaces `d`."""

    def cheapest_move(self, need: Tensor, weight: Tensor, room: Tensor) -> Tensor:
        """Return the smallest `0 <= move <= room` with `sum(weight * move) = need` (all `>= 0`)."""

    def size_needed(self, need: Tensor, g: Tensor, room: Tensor) -> Tensor:
        """Return the size `[N]` of a change that gains `need` (`>= 0`) along `g`."""

    def scaled(self, eps: Tensor, factor: float) -> Tensor:
        """Return budgets `[N]` about `factor` times as large; another budget even where budgets are whole numbers."""

    def between(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the budgets `[N]` half way between two; `low` where there is none between them."""

    def random(self, draws: Draws, features: int, free: Tensor | None = None) -> Tensor:
        """Return `[N, D]` spread over the unit ball of the values that are `free` (as for `step`), 0 elsewhere."""


def unit(g: Tensor) -> Tensor:
    """Return `g` with rows of Euclidean length 1, exact down to subnormal gradients; zero rows stay zero."""
    # dividing by the largest entry first keeps the squares from underflowing on saturated models
    g = g / g.abs().amax(1, keepdim=True).clamp_min(_TINY)
    return g / _length(g).clamp_min(_TINY)


def sparse_signs(g: Tensor, share: Tensor) -> Tensor:
    """Return signs on a `share` (`[N]`) of the values, those with the largest gradients, of L1 size 1 together."""
    k = (share * g.shape[1]).round().clamp(1, g.shape[1]).long()
    least = g.abs().sort(1, descending=True).values.gather(1, k[:, None] - 1)
    signs = torch.where(g.abs() >= least, g.sign(), torch.zeros_like(g))
    return signs / signs.abs().sum(1, keepdim=True).clamp_min(1)


def _length(d: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(d, dim=1, keepdim=True)
    return length


def _radius(draws: Draws, features: int, free: Tensor | None) -> Tensor:
    # of a point in the unit ball
    inverse = 1 / count_free(free, features)
    return draws.uniform("radius", 1) ** (inverse.float() if isinstance(inverse, Tensor) else inverse)


def _fill(need: Tensor, weight: Tensor, room: Tensor, rate: Tensor) -> Tensor:
    # water-filling: smallest t with sum(weight * min(t * rate, room)) = need. Newton's steps on that concave sum come
    # from below and are exact once nothing more is full, mostly after a few; sorting costs as much as many of them
    most, slope = weight * room, weight * rate
    t = torch.zeros_like(need)[:, None]
    while True:
        free = (room - t * rate).sign().clamp_min(0)
        left = need[:, None] - (most - free * most).sum(1, keepdim=True)
        further = left / (free * slope).sum(1, keepdim=True).clamp_min(_TINY)
        if not bool((further > t).any()):
            return torch.minimum(t * rate, room)
        t = torch.maximum(t, further)


def _greedy(need: Tensor, weight: Tensor, room: Tensor, order: Tensor) -> Tensor:
    # spend the whole room of one coordinate after the other until the need is met
    gain = (weight * room).gather(1, order)
    before = gain.cumsum(1) - gain
    share = ((need[:, None] - before) / gain.clamp_min(_TINY)).clamp(0, 1)
    return torch.zeros_like(room).scatter(1, order, share * room.gather(1, order))


def _keep_largest(d: Tensor, score: Tensor, eps: float | Tensor) -> Tensor:
    rank = score.argsort(dim=1, descending=True, stable=True).argsort(1)
    return torch.where(rank + 1 <= eps, d, torch.zeros_like(d))


def _linear(norm: Norm, need: Tensor, g: Tensor) -> Tensor:
    # in an endless box; where the gradient is zero nothing is in reach
    return need / norm.dual(g).clamp_min(_TINY)


class _Linf:
    boxed = False
    # a ball in Linf is longer across; AttackBench takes 10, with which the median on an MNIST network is 2 % larger
    first_step = 3.0

    def __init__(self, name: str) -> None:
        self.name = name

    def size(self, d: Tensor) -> Tensor:
        return d.abs().amax(1)

    def dual(self, g: Tensor) -> Tensor:
        return g.abs().sum(1)

    def steepest(self, g: Tensor) -> Tensor:
        return g.sign()

    def step(self, g: Tensor, room: Tensor, length: float | Tensor, free: Tensor | None = None) -> Tensor:
        return length * g.sign()

    def project(self, d: Tensor, eps: float | Tensor, room: Tensor) -> Tensor:
        return torch.clamp(d, -eps, eps)  # type: ignore[arg-type]  # both bounds are numbers, or both tensors

    def cheapest_move(self, need: Tensor, weight: Tensor, room: Tensor) -> Tensor:
        return _fill(need, weight, room, torch.ones_like(weight))

    def size_needed(self, need: Tensor, g: Tensor, room: Tensor) -> Tensor:
        return _linear(self, need, g)

    def scaled(self, eps: Tensor, factor: float) -> Tensor:
        return eps * factor

    def between(self, low: Tensor, high: Tensor) -> Tensor:
        return (low + high) / 2

    def random(self, draws: Draws, features: int, free: Tensor | None = None) -> Tensor:
        return only_free(2 * draws.uniform("start", features) - 1, free)


class _L2:
    name = "l2"
    boxed = False
    first_step = 1.0

    def size(self, d: Tensor) -> Tensor:
        return _length(d).squeeze(1)

    def dual(self, g: Tensor) -> Tensor:
        return _length(g).squeeze(1)

    def steepest(self, g: Tensor) -> Tensor:
        return unit(g)

    def step(self, g: Tensor, room: Tensor, length: float | Tensor, free: Tensor | None = None) -> Tensor:
        return length * unit(g)

    def project(self, d: Tensor, eps: float | Tensor, room: Tensor) -> Tensor:
        # the box is applied afterwards, by clipping: inside both sets, though not their nearest common point
        return d * (eps / _length(d).clamp_min(_TINY)).clamp(max=1)

    def cheapest_move(self, need: Tensor, weight: Tensor, room: Tensor) -> Tensor:
        return _fill(need, weight, room, weight)

    def size_needed(self, need: Tensor, g: Tensor, room: Tensor) -> Tensor:
        return _linear(self, need, g)

    def scaled(self, eps: Tensor, factor: float) -> Tensor:
        return eps * factor

    def between(self, low: Tensor, high: Tensor) -> Tensor:
        return (low + high) / 2

    def random(self, draws: Draws, features: int, free: Tensor | None = None) -> Tensor:
        return unit(only_free(draws.normal("start", features), free)) * _radius(draws, features, free)


class _L1:
    name = "l1"
    boxed = True
    first_step = 1.0

    # a step along the single best coordinate meets the box at once; the best 1 % share it (SLIDE, Tramer and Boneh
    # 2019), and what the box takes from one goes to the next: or every step would end at the same few values, which
    # the projection brings a little off the box each time
    share = 0.01

    def size(self, d: Tensor) -> Tensor:
        return d.abs().sum(1)

    def dual(self, g: Tensor) -> Tensor:
        return g.abs().amax(1)

    def steepest(self, g: Tensor) -> Tensor:
        i = g.abs().argmax(1, keepdim=True)
        return torch.zeros_like(g).scatter(1, i, g.gather(1, i).sign())

    def step(self, g: Tensor, room: Tensor, length: float | Tensor, free: Tensor | None = None) -> Tensor:
        share = torch.as_tensor(self.share * count_free(free, g.shape[1]), dtype=torch.float64)
        k = share.round().clamp_min(1).to(g.dtype)
        length = torch.as_tensor(length, dtype=g.dtype, device=g.device).expand(len(g), 1)
        usable = torch.where(g == 0, torch.zeros_like(room), torch.minimum(room, length / k))
        return g.sign() * _greedy(length.squeeze(1), torch.ones_like(g), usable, g.abs().argsort(1, descending=True))

    def project(self, d: Tensor, eps: float | Tensor, room: Tensor) -> Tensor:
        # exact projection onto ball and box together (Croce and Hein 2021): |d| is lowered by one threshold and
        # capped by the room; bisection finds the threshold to float precision, from the feasible side
        a = d.abs()
        low = torch.zeros_like(a[:, :1])
        high = a.amax(1, keepdim=True)
        fits = torch.minimum(a, room).sum(1, keepdim=True) <= eps
        for _ in range(30):
            middle = (low + high) / 2
            over = torch.minimum((a - middle).clamp_min(0), room).sum(1, keepdim=True) > eps
            low, high = torch.where(over, middle, low), torch.where(over, high, middle)
        threshold = torch.where(fits, torch.zeros_like(high), high)
        return d.sign() * torch.minimum((a - threshold).clamp_min(0), room)

    def cheapest_move(self, need: Tensor, weight: Tensor, room: Tensor) -> Tensor:
        return _greedy(need, weight, room, weight.argsort(1, descending=True))

    def size_needed(self, need: Tensor, g: Tensor, room: Tensor) -> Tensor:
        return _linear(self, need, g)

    def scaled(self, eps: Tensor, factor: float) -> Tensor:
        return eps * factor

    def between(self, low: Tensor, high: Tensor) -> Tensor:
        return (low + high) / 2

    def random(self, draws: Draws, features: int, free: Tensor | None = None) -> Tensor:
        # exponential magnitudes over their sum are uniform on the simplex
        a = only_free(-(1 - draws.uniform("start", features)).log(), free)
        sign = torch.where(draws.uniform("sign", features) < 0.5, -1.0, 1.0)
        return sign * a / a.sum(1, keepdim=True).clamp_min(_TINY) * _radius(draws, features, free)


class _L0:
    """Counts changed values (one pixel of three channels counts up to three)."""

    name = "l0"
    boxed = True
    first_step = 1.0

    def size(self, d: Tensor) -> Tensor:
        return (d != 0).sum(1).to(d.dtype)

    def dual(self, g: Tensor) -> Tensor:
        raise BadInput("L0 has no dual norm: a perturbation of one value can be of any height. Use an L0 attack.")

    def steepest(self, g: Tensor) -> Tensor:
        raise BadInput("L0 has no steepest direction: a perturbation of one value can be of any height.")

    def step(self, g: Tensor, room: Tensor, length: float | Tensor, free: Tensor | None = None) -> Tensor:
        return self.steepest(g)

    def project(self, d: Tensor, eps: float | Tensor, room: Tensor) -> Tensor:
        # keeping a value brings the nearest point this much nearer; the height alone would tie wherever the box cuts,
        # and ties go to the first values of the image
        height = torch.minimum(d.abs(), room)
        return _keep_largest(d, height * (2 * d.abs() - height), eps)

    def cheapest_move(self, need: Tensor, weight: Tensor, room: Tensor) -> Tensor:
        return _greedy(need, weight, room, (weight * room).argsort(1, descending=True))

    def size_needed(self, need: Tensor, g: Tensor, room: Tensor) -> Tensor:
        # as many values as it takes, those that gain most within the box first
        gains = (g.abs() * room).sort(1, descending=True).values.cumsum(1)
        return (gains < need[:, None]).sum(1).to(g.dtype).clamp_max(g.shape[1] - 1) + 1

    def scaled(self, eps: Tensor, factor: float) -> Tensor:
        return scaled_whole(eps, factor)

    def between(self, low: Tensor, high: Tensor) -> Tensor:
        return ((low + high) / 2).floor()

    def random(self, draws: Draws, features: int, free: Tensor | None = None) -> Tensor:
        return only_free(2 * draws.uniform("start", features) - 1, free)


LINF: Norm = _Linf("linf")
L2: Norm = _L2()
L1: Norm = _L1()
L0: Norm = _L0()
YCBCR: Norm = _Linf("ycbcr")
"""The largest change of any component of any pixel; a `Threat` makes components of the values."""

NORMS: dict[str, Norm] = {norm.name: norm for norm in (LINF, L2, L1, L0)}
PATCH: Norm = PATCH_NORM
"""The side of the square around what changed; a `Threat` tells it the shape of the images."""
THREAT_NORMS: dict[str, Norm] = {**NORMS, YCBCR.name: YCBCR, PATCH.name: PATCH}
"""What threats are measured in: the norms of the values, that of the components of colours, the size of a patch."""


# of a change in float32
_ROUNDING = 1e-6

Proximal = Callable[[Tensor, Tensor], Tensor]


def _l1(d: Tensor, weight: Tensor) -> Tensor:
    # every value moves towards zero by the weight
    return d.sign() * (d.abs() - weight).clamp_min(0)


def _l2(d: Tensor, weight: Tensor) -> Tensor:
    # the length shrinks by the weight
    length: Tensor = torch.linalg.vector_norm(d, dim=1, keepdim=True)
    return unit(d) * (length - weight).clamp_min(0)


def _linf(d: Tensor, weight: Tensor) -> Tensor:
    # what is cut off the largest values sums to the weight (Moreau: d minus its projection on the L1 ball)
    a = d.abs()
    falling = a.sort(1, descending=True).values
    count = torch.arange(1, a.shape[1] + 1, device=a.device, dtype=a.dtype)
    levels = (falling.cumsum(1) - weight) / count
    # the level of the longest run of values that all stand above it
    last = (falling > levels).sum(1, keepdim=True).clamp_min(1) - 1
    return d.sign() * torch.minimum(a, levels.gather(1, last).clamp_min(0))


PROXIMAL: dict[str, Proximal] = {"l1": _l1, "l2": _l2, "linf": _linf}


def _l1_slope(d: Tensor) -> Tensor:
    # rounding is no change: the sign of it would be a step of its own
    return d.sign() * (d.abs() > _ROUNDING)


SLOPES: dict[str, Callable[[Tensor], Tensor]] = {"l1": _l1_slope, "l2": unit}
"""The gradient of the norm; of the subgradients of L1 the shortest."""


def proximal_of(norm: str) -> Proximal:
    """Return the proximal operator of a norm. Raises `BadInput` for one that has none (L0)."""
    if norm not in PROXIMAL:
        raise BadInput(f"There is no proximal operator for {norm}; there is for {', '.join(PROXIMAL)}.")
    return PROXIMAL[norm]


def slope_of(norm: str) -> Callable[[Tensor], Tensor]:
    """Return the gradient of a norm. Raises `BadInput` for one that is no sum over values (Linf, L0)."""
    if norm not in SLOPES:
        raise BadInput(f"There is no gradient of {norm} to descend; there is of {', '.join(SLOPES)}.")
    return SLOPES[norm]
