"""Goals for models that say of every label whether an image has it: `[N, K]` scores, each a decision of its own.

A label is present where its score is above the threshold: 0, which is a probability of one half for scores that go
through a sigmoid. The truth `y` is multi-hot `[N, K]`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.core.errors import BadInput, did_you_mean
from assay.core.goal import scored

BROKEN = ("any", "hide", "add")


@dataclasses.dataclass(frozen=True)
class MultiLabel:
    """At least `count` decisions differ from the truth `y` (`[N, K]` of 0 and 1), among those that `broken` names.

    `broken`: "any" label (the answer is no longer an exact match), "hide" (a present label is answered as absent) or
    "add" (an absent one as present). `count` is how many at once; "all" means all of an image's. An image with fewer
    such labels is left out. `threshold` is a score, or one per label `[K]`. With `climbed` (int64 `[N]`) attacks
    climb the decision about that label alone; what counts as broken stays the same.

    Raises `BadInput` for labels that are not 0 and 1, fewer than two labels, unknown words and counts below 1.
    """

    y: Tensor
    broken: str = "any"
    count: int | str = 1
    threshold: float | Tensor = 0.0
    climbed: Tensor | None = None

    SHARED: ClassVar[tuple[str, ...]] = ("broken", "count", "threshold")

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", _multi_hot(self.y))
        _check_threshold(self.threshold, self.y)
        if self.broken not in BROKEN:
            near = did_you_mean(str(self.broken), BROKEN)
            raise BadInput(f"broken is {self.broken!r}, expected one of {', '.join(BROKEN)}.{near}")
        whole = isinstance(self.count, int) and not isinstance(self.count, bool)
        if self.count != "all" and not (whole and 1 <= self.count <= self.y.shape[1]):  # type: ignore[operator]  # whole
            raise BadInput(
                f"count is {self.count!r}, expected 'all', or how many of the {self.y.shape[1]} labels, 1 or more."
            )

    def reached(self, logits: Tensor) -> Tensor:
        """Whether so many decisions are wrong, bool `[N]`."""
        wrong = (_above(logits, self.threshold) > 0) != self.y
        return scored(logits) & ~self.left_out() & ((wrong & self.open_labels).sum(1) >= self._needed)

    def gap(self, logits: Tensor) -> Tensor:
        """How far the `count`-th most wrong decision is beyond the threshold: above 0 where it is wrong, no tie."""
        return torch.where(scored(logits), self._wrongest(logits), -torch.inf)

    def lead(self, logits: Tensor) -> Tensor:
        """The gap, or the same of the label that is climbed."""
        if self.climbed is None:
            return self._wrongest(logits)
        return self._beyond(logits).gather(1, self.climbed[:, None]).squeeze(1)

    def surprise(self, logits: Tensor) -> Tensor:
        """Binary cross-entropy, summed over the `count` decisions nearest to being wrong, or of the one climbed.

        The sum over all labels would spread the budget over decisions that need not change.
        """
        if self.climbed is not None:
            return F.softplus(self.lead(logits))
        beyond = self._beyond(logits).sort(1, descending=True).values
        counted = torch.arange(beyond.shape[1], device=beyond.device) < self._needed[:, None]
        return torch.where(counted, F.softplus(beyond), 0).sum(1)

    def left_out(self) -> Tensor:
        """Return bool `[N]`: images with fewer labels of the kind than must become wrong."""
        return self.open_labels.sum(1) < self._needed.clamp_min(1)

    def boundaries(self, logits: Tensor, most: int) -> Tensor | None:
        """Return `[N, R]`: the `most` decisions nearest to being wrong, where one is enough; None where it is not."""
        if self.count != 1 or self.climbed is not None:
            return None
        top = self._beyond(logits).topk(min(most, logits.shape[1]), 1).values
        # an image with fewer such labels has its first boundary several times
        return torch.where(top.isneginf(), top[:, :1], top)

    def toward_each(self, logits: Tensor, most: int) -> list[MultiLabel]:
        """Return the goals to climb one after the other: each of the `most` labels that are nearest to being wrong.

        Raises `BadInput` where one wrong decision is not enough.
        """
        if self.count != 1:
            raise BadInput(
                f"EachTarget climbs one label at a time, and the goal needs {self.count} wrong at once. Use the attack "
                "alone."
            )
        top = self._beyond(logits).topk(min(most, logits.shape[1]), 1)
        first = top.indices[:, :1]
        at = torch.where(top.values.isneginf(), first, top.indices)
        return [dataclasses.replace(self, climbed=at[:, j]) for j in range(at.shape[1])]

    @property
    def open_labels(self) -> Tensor:
        """The labels whose decision may become wrong, bool `[N, K]`."""
        match self.broken:
            case "hide":
                return self.y
            case "add":
                return ~self.y
        return torch.ones_like(self.y)

    @property
    def _needed(self) -> Tensor:
        open_labels = self.open_labels.sum(1)
        return open_labels if self.count == "all" else torch.full_like(open_labels, int(self.count))

    def _beyond(self, logits: Tensor) -> Tensor:
        # above 0 for a wrong decision, -inf for one that does not count
        above = _above(logits, self.threshold)
        return torch.where(self.open_labels, torch.where(self.y, -above, above), -torch.inf)

    def _wrongest(self, logits: Tensor) -> Tensor:
        beyond = self._beyond(logits).sort(1, descending=True).values
        at = (self._needed.clamp_min(1) - 1)[:, None]
        return beyond.gather(1, at).squeeze(1)


@dataclasses.dataclass(frozen=True)
class MultiLabelTargeted:
    """The decisions `t` (`[N, K]`: 1 present, 0 absent, -1 whatever), all at once.

    An image whose true labels `y` are already those of `t` is left out. `threshold` as for `MultiLabel`. Raises
    `BadInput` for labels that are not 0 and 1, other values in `t`, and an image with no decision to reach.
    """

    y: Tensor
    t: Tensor
    threshold: float | Tensor = 0.0

    SHARED: ClassVar[tuple[str, ...]] = ("threshold",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", _multi_hot(self.y))
        _check_threshold(self.threshold, self.y)
        t = self.t
        if not _is_target(t, self.y):
            raise BadInput(
                f"The target is {_told(t)}, expected {list(self.y.shape)} as the labels: 1 for a label to show, 0 for "
                "one to hide, -1 where it does not matter."
            )
        empty = (t == -1).all(1)
        if bool(empty.any()):
            raise BadInput(
                f"The target of image {int(empty.nonzero()[0])} is -1 for every label, expected 0 or 1 for one or more."
            )
        object.__setattr__(self, "t", t.long())

    def reached(self, logits: Tensor) -> Tensor:
        """Whether every decision is the target's, bool `[N]`."""
        met = (_above(logits, self.threshold) > 0) == (self.t == 1)
        return scored(logits) & (met | (self.t == -1)).all(1)

    def gap(self, logits: Tensor) -> Tensor:
        """How far the decision furthest from its target is beyond the threshold."""
        return torch.where(scored(logits), self.lead(logits), -torch.inf)

    def lead(self, logits: Tensor) -> Tensor:
        """The gap, as it is differentiated."""
        return self._toward(logits).amin(1)

    def surprise(self, logits: Tensor) -> Tensor:
        """Log-likelihood of the target's decisions."""
        return -F.softplus(-self._toward(logits)).sum(1)

    def left_out(self) -> Tensor:
        """Return bool `[N]`: images whose true labels are the target."""
        return ((self.t == -1) | ((self.t == 1) == self.y)).all(1)

    def _toward(self, logits: Tensor) -> Tensor:
        # above 0 for a decision as wanted, inf for one that does not matter
        above = _above(logits, self.threshold)
        return torch.where(self.t == -1, torch.inf, torch.where(self.t == 1, above, -above))


MULTI_LABEL = (MultiLabel, MultiLabelTargeted)


def cooled(logits: Tensor, goal: MultiLabel | MultiLabelTargeted, divisor: Tensor | float) -> Tensor:
    """Return scores `[N, K]` whose distances from the threshold are divided; the decisions stay."""
    return goal.threshold + _above(logits, goal.threshold) / divisor


def nearest(logits: Tensor, goal: MultiLabel | MultiLabelTargeted) -> Tensor:
    """Return `[N, 1]`: how far the closest score of any label is from its threshold."""
    return _above(logits, goal.threshold).abs().amin(1, keepdim=True)


def square_error(logits: Tensor, goal: MultiLabel | MultiLabelTargeted) -> Tensor:
    """Return `[N]`: mean squared distance of the sigmoids from the truth, or minus that from the target."""
    shown = _above(logits, goal.threshold).sigmoid()
    if isinstance(goal, MultiLabelTargeted):
        return -torch.where(goal.t == -1, 0, (shown - goal.t).square()).mean(1)
    return torch.where(goal.open_labels, (shown - goal.y.to(shown)).square(), 0).mean(1)


def _above(logits: Tensor, threshold: float | Tensor) -> Tensor:
    return logits - threshold


def _multi_hot(y: object) -> Tensor:
    if not isinstance(y, Tensor) or y.ndim != 2:
        raise BadInput(
            f"The labels are {_told(y)}, expected multi-hot labels [N, K]: 1 where an image has the label, else 0. "
            "One class number per image goes to assay.Untargeted(y)."
        )
    if y.shape[1] < 2:
        raise BadInput(
            f"The labels are {list(y.shape)}: one decision per image. Give class numbers, y[:, 0].long(), and no "
            "multi-label goal."
        )
    if y.dtype is not torch.bool and not bool(((y == 0) | (y == 1)).all()):
        raise BadInput(
            f"The labels hold {float(y.min()):g} to {float(y.max()):g}, expected 0 and 1 alone: whether an image has "
            "the label. Round soft labels first."
        )
    return y.bool()


def _is_target(t: object, y: Tensor) -> bool:
    return isinstance(t, Tensor) and t.shape == y.shape and bool(((t == -1) | (t == 0) | (t == 1)).all())


def _check_threshold(threshold: object, y: Tensor) -> None:
    if isinstance(threshold, Tensor):
        if threshold.shape not in ((), y.shape[1:]) or not bool(threshold.isfinite().all()):
            raise BadInput(
                f"threshold is {list(threshold.shape)}, expected one finite score, or one for each of the "
                f"{y.shape[1]} labels."
            )
    elif isinstance(threshold, bool) or not isinstance(threshold, int | float) or not abs(threshold) < float("inf"):
        raise BadInput(f"threshold is {threshold!r}, expected a finite score, or one per label as a tensor [K].")


def _told(value: object) -> str:
    return f"{list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
