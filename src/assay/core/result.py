"""What a search found, sample by sample, and how results are merged."""

from __future__ import annotations

import enum
from typing import NamedTuple

import torch
from torch import Tensor

from assay.core.goal import scored
from assay.core.oracle import Observation
from assay.core.tensors import counts, take
from assay.core.threat import Threat


class Keeps(enum.Enum):
    """Which point of a sample's path is its result, and when the sample is finished."""

    LAST = "last"
    """The final point, without early stop: what published one-run numbers and other libraries report."""
    FIRST = "first"
    """The first success; the sample stops there."""
    WORST = "worst"
    """The success with the largest gap."""
    SMALLEST = "smallest"
    """The success nearest to the image."""


class SearchResult(NamedTuple):
    """The result per sample. `success` means goal reached inside budget and box; counts are int64 `[N]`.

    `gap` is the goal's, -inf where nothing was found out; `logits` are those at `x`. `part` (int64) says which leaf of
    a composition found `x`, counted as `Composition.stages` lists them. `queries` are the rows the attack asked about,
    `looks` how often it was asked, `unscored` how many of the points asked about had scores without an order (NaN or
    infinite): such a point is no success, and is the result only as the LAST one, or where no other was seen.
    """

    x: Tensor
    success: Tensor
    gap: Tensor
    size: Tensor
    logits: Tensor
    part: Tensor
    forwards: Tensor
    backwards: Tensor
    queries: Tensor
    looks: Tensor
    unscored: Tensor

    @property
    def results(self) -> tuple[Tensor, ...]:
        """What was found, without what it cost."""
        return self[:_RESULTS]

    @property
    def costs(self) -> tuple[Tensor, ...]:
        """Forwards, backwards, queries, looks and points without scores: what adds up."""
        return self[_RESULTS:]


_RESULTS = 6


def nothing(x: Tensor) -> SearchResult:
    """Return the result of not having searched yet: the images themselves, nothing spent."""
    no = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    gap, size = x.new_full((len(x),), -torch.inf), x.new_full((len(x),), torch.inf)
    return SearchResult(x.detach().clone(), no, gap, size, x.new_zeros(len(x), 0), *(counts(x) for _ in range(6)))


def unbilled(found: SearchResult) -> SearchResult:
    """Return the same results with nothing billed: `put` works in place, and a budget's costs are its own."""
    results = (value.clone() for value in found.results)
    return SearchResult(*results, *(torch.zeros_like(value) for value in found.costs))


class Merit(NamedTuple):
    """The part of a result that decides which of two is kept."""

    success: Tensor
    gap: Tensor
    size: Tensor


def better(new: SearchResult, old: SearchResult | Merit, keeps: Keeps) -> Tensor:
    """Return bool `[N]`: rows where `new` replaces `old`. Compares the goal's gap, never an attack's own objective."""
    if keeps is Keeps.LAST:
        return torch.ones_like(new.success)
    gained = new.success & ~old.success
    closer = (new.success == old.success) & (new.gap > old.gap)
    if keeps is Keeps.SMALLEST:
        smaller = new.success & old.success & (new.size < old.size)
        return gained | smaller | (closer & ~new.success)
    if keeps is Keeps.FIRST:
        return gained | (closer & ~old.success)
    return gained | closer


def put(found: SearchResult, at: Tensor, new: SearchResult, keeps: Keeps, fits: Tensor | None = None) -> SearchResult:
    """Merge the results `new` of the rows `at` into `found`, better ones only; costs always add up.

    A point that does not fit (bool `[N]`) into budget and box is no result, unless it is the LAST one.
    Works in place on `found`, which the caller owns.
    """
    if found.logits.shape[1] < new.logits.shape[1]:
        found = found._replace(logits=new.logits.new_full((len(found.x), new.logits.shape[1]), torch.nan))
    win = better(new, take(Merit(found.success, found.gap, found.size), at), keeps)
    if fits is not None and keeps is not Keeps.LAST:
        win &= fits
    won = win.nonzero().squeeze(1)
    if len(won):
        where = at[won]
        for old, value in zip(found.results, new.results, strict=True):
            if value.shape[1:] == old.shape[1:]:
                old.index_copy_(0, where, value.index_select(0, won).to(old.dtype))
    for old, value in zip(found.costs, new.costs, strict=True):
        old.index_add_(0, at, value)
    return found


def told_size(size: Tensor, threat: Threat, dtype: torch.dtype | None = None) -> Tensor:
    """Return sizes `[N]` as they are reported, in `dtype` (their own): at most the budget where the threat allows them.

    A point on the edge of the budget has a size that rounding put a little above it, which the threat forgives. Who
    compares the reported size with the budget must come to the same judgement.
    """
    told = size.to(dtype or size.dtype)
    # on the CPU: not every device knows numbers of 64 bits
    most = torch.as_tensor(threat.eps, dtype=torch.float64, device="cpu")
    budget = most.to(told.dtype)
    # the largest number of the type that is not above the budget
    budget = torch.where(budget.double() > most, torch.nextafter(budget, torch.zeros_like(budget)), budget)
    return torch.where(threat.allows(size), torch.minimum(told, budget.to(size.device)), told)


def bill(found: SearchResult, at: Tensor, seen: Observation) -> None:
    """Add the cost of a look to the rows `at` of `found`."""
    for total, spent in zip(found.costs, costs_of(seen), strict=True):
        total.index_add_(0, at, spent)


def costs_of(seen: Observation) -> tuple[Tensor, ...]:
    """Return what a look adds to `SearchResult.costs`."""
    asked = (seen.cost.queries > 0).to(torch.int64)
    return (*seen.cost, asked, unscored(seen).to(torch.int64))


def unscored(seen: Observation) -> Tensor:
    """Return bool `[N]`: points whose scores have no order. Where the points themselves were not judged, False."""
    lost = ~scored(seen.logits)
    return lost if seen.judged is None else lost & seen.judged
