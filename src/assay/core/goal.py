"""When is the model broken: goals hold the labels, judge the logits, and give attacks a direction.

A goal is batch-first and is taken together with the rows. `gap` judges (above 0 where the goal is reached), `lead`
is what an attack climbs, `surprise` is the cross-entropy oriented so that climbing it serves the goal.

`reject` is the index of a class that means "I refuse this input"; an input that ends there has not broken the model.

Scores without an order (see `scored`) reach no goal: what the model would have answered is not known.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.core.errors import BadInput

_NEVER = -torch.inf


class Goal(Protocol):
    """What counts as breaking the model. `logits` are `[N, K]`; every answer is `[N]`."""

    @property
    def y(self) -> Tensor:
        """The labels the samples carry, int64 `[N]`; bool `[N, K]` where each sample may have several."""

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the goal is reached, bool `[N]`, with ties broken as `argmax` does; False without an order."""

    def gap(self, logits: Tensor) -> Tensor:
        """The goal's side minus the other side: above 0 exactly where the goal is reached without a tie.

        It is -inf where the scores have no order, and is never NaN.
        """

    def lead(self, logits: Tensor) -> Tensor:
        """The difference of logits an attack climbs."""

    def surprise(self, logits: Tensor) -> Tensor:
        """The cross-entropy, oriented so that more is better for the attacker."""


GoalT = TypeVar("GoalT", bound=Goal)


@runtime_checkable
class LeavesOut(Protocol):
    """A goal that says itself which samples it leaves out."""

    def left_out(self) -> Tensor:
        """Return bool `[N]`."""


def scored(logits: Tensor) -> Tensor:
    """Return bool `[N]`: whether the scores of a row have an order.

    A NaN anywhere has none, and +inf is an overflow, as is a row of -inf alone. A class of -inf among finite ones is
    masked: it comes last, and the others are compared as usual.
    """
    return logits.amax(1).isfinite()


def answer_of(logits: Tensor) -> Tensor:
    """Return the top class int64 `[N]`, of equal ones the lower index; -1 where the scores have no order."""
    top, which = logits.max(1)
    return torch.where(top.isfinite(), which, -1)


def rank_of(logits: Tensor, y: Tensor) -> Tensor:
    """Return the rank int64 `[N]` of class `y`: 1 is the top; of equal logits the lower index comes first."""
    own = logits.gather(1, y[:, None])
    index = torch.arange(logits.shape[1], device=logits.device)
    ahead = (logits > own) | ((logits == own) & (index < y[:, None]))
    # without an order the class counts as last, never as right
    return torch.where(scored(logits), 1 + ahead.sum(1), torch.full_like(y, logits.shape[1]))


def knows_refusal(goal: Goal) -> bool:
    """Whether a goal says that the last class is a refusal, and that a refused input has not broken the model."""
    return getattr(goal, "reject", None) is not None


def among_classes(goal: GoalT) -> GoalT:
    """Return the same goal for the classes' logits `[N, K]` alone, without that of a refusal."""
    return dataclasses.replace(goal, reject=None) if knows_refusal(goal) else goal  # type: ignore[type-var]  # every such goal is a dataclass


def excluded(goal: Goal) -> Tensor:
    """Return bool `[N]`: samples that a goal leaves out, such as those whose label is its target.

    They are in no number.
    """
    if isinstance(goal, LeavesOut):
        return goal.left_out()
    if isinstance(goal, Targeted):
        return goal.t == goal.y
    return torch.zeros_like(goal.y, dtype=torch.bool)


def pick(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logit `[N]` of class `y`."""
    return logits.gather(1, y[:, None]).squeeze(1)


def without(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logits with class `y` out of the race."""
    return logits.scatter(1, y[:, None], _NEVER)


def _competitors(logits: Tensor, y: Tensor, reject: int | None) -> tuple[Tensor, Tensor]:
    # best class that would be a wrong answer, and what it has to beat: the right answer, or a refusal
    others, own = without(logits, y), pick(logits, y)
    if reject is None:
        return others.amax(1), own
    refusal = torch.full_like(y, _index(reject, logits))
    return without(others, refusal).amax(1), torch.maximum(own, pick(logits, refusal))


def _index(reject: int, logits: Tensor) -> int:
    # -1 is the last class
    return reject % logits.shape[1]


def _ordered(lead: Tensor, logits: Tensor) -> Tensor:
    # what is left of NaN is the difference of two masked classes: a tie
    return torch.where(scored(logits), lead.nan_to_num(0.0, torch.inf, -torch.inf), -torch.inf)


@dataclasses.dataclass(frozen=True)
class Untargeted:
    """Any class but the label `y` (`[N]`)."""

    y: Tensor
    reject: int | None = None

    SHARED: ClassVar[tuple[str, ...]] = ("reject",)

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the top class is wrong and no refusal."""
        answer = answer_of(logits)
        wrong = (answer >= 0) & (answer != self.y)
        return wrong if self.reject is None else wrong & (answer != _index(self.reject, logits))

    def gap(self, logits: Tensor) -> Tensor:
        """Best other class minus the label's."""
        return _ordered(self.lead(logits), logits)

    def lead(self, logits: Tensor) -> Tensor:
        """The gap, as it is differentiated."""
        best, bar = _competitors(logits, self.y, self.reject)
        return best - bar

    def surprise(self, logits: Tensor) -> Tensor:
        """Negative log-likelihood of the label, or of label and refusal together: neither is a success."""
        if self.reject is None:
            return F.cross_entropy(logits, self.y, reduction="none")
        refusal = torch.full_like(self.y, _index(self.reject, logits))
        safe = torch.stack([pick(logits, self.y), pick(logits, refusal)], 1)
        return F.softplus(without(without(logits, self.y), refusal).logsumexp(1) - safe.logsumexp(1))

    def toward_each(self, logits: Tensor, most: int) -> list[Toward]:
        """Return the goals to climb one after the other: each of the `most` highest wrong classes."""
        others, wrong = without(logits, self.y), logits.shape[1] - 1
        if self.reject is not None:
            others, wrong = without(others, torch.full_like(self.y, _index(self.reject, logits))), wrong - 1
        order = others.topk(min(most, wrong), 1).indices
        return [Toward(self.y, one, self.reject) for one in order.unbind(1)]


@dataclasses.dataclass(frozen=True)
class Targeted:
    """The class `t` (`[N]`) and no other. Where `t` is the label there is nothing to attack: see `excluded`.

    `reject` changes nothing here, a refusal is not the target: it tells attacks that know it which class one is.
    """

    y: Tensor
    t: Tensor
    reject: int | None = None

    SHARED: ClassVar[tuple[str, ...]] = ("reject",)

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the target is the top class."""
        return answer_of(logits) == self.t

    def gap(self, logits: Tensor) -> Tensor:
        """The target minus the best other class."""
        return _ordered(self.lead(logits), logits)

    def lead(self, logits: Tensor) -> Tensor:
        """The gap, as it is differentiated."""
        return pick(logits, self.t) - without(logits, self.t).amax(1)

    def surprise(self, logits: Tensor) -> Tensor:
        """Log-likelihood of the target."""
        return -F.cross_entropy(logits, self.t, reduction="none")


@dataclasses.dataclass(frozen=True)
class Toward:
    """Any class but `y` counts, but climb towards `t`: one run of a multi-targeted attack."""

    y: Tensor
    t: Tensor
    reject: int | None = None

    SHARED: ClassVar[tuple[str, ...]] = ("reject",)

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the top class is wrong."""
        return Untargeted(self.y, self.reject).reached(logits)

    def gap(self, logits: Tensor) -> Tensor:
        """Best other class minus the label's: comparable between targets."""
        return Untargeted(self.y, self.reject).gap(logits)

    def lead(self, logits: Tensor) -> Tensor:
        """The target minus the label, or minus the refusal where that is higher."""
        bar = pick(logits, self.y)
        if self.reject is not None:
            bar = torch.maximum(bar, pick(logits, torch.full_like(self.y, _index(self.reject, logits))))
        return pick(logits, self.t) - bar

    def surprise(self, logits: Tensor) -> Tensor:
        """Log-likelihood of the target."""
        return -F.cross_entropy(logits, self.t, reduction="none")


def facing(goal: Goal, model: object, made_for: object) -> Goal:
    """Return a goal that was made for the oracle `made_for` as it is for another, `model`.

    An oracle whose last class means "refused" says so (`rejects`). A goal that wants refusals goes on wanting them.
    """
    if not isinstance(goal, Untargeted | Toward):
        return goal
    if not getattr(model, "rejects", False):
        return dataclasses.replace(goal, reject=None)
    wanted = goal.reject is None and getattr(made_for, "rejects", False)
    return goal if wanted else dataclasses.replace(goal, reject=-1)


@dataclasses.dataclass(frozen=True)
class OutOfTop:
    """The label leaves the `k` highest classes. Raises `BadInput` where the model has no more than k classes."""

    y: Tensor
    k: int

    SHARED: ClassVar[tuple[str, ...]] = ("k",)

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the label's rank is beyond `k`."""
        return (rank_of(logits, self.y) > self._checked(logits)) & scored(logits)

    def gap(self, logits: Tensor) -> Tensor:
        """The k-th best other class minus the label's."""
        return _ordered(self.lead(logits), logits)

    def lead(self, logits: Tensor) -> Tensor:
        """The gap, as it is differentiated."""
        return without(logits, self.y).topk(self._checked(logits), 1).values[:, -1] - pick(logits, self.y)

    def surprise(self, logits: Tensor) -> Tensor:
        """Negative log-likelihood of the label."""
        return F.cross_entropy(logits, self.y, reduction="none")

    def _checked(self, logits: Tensor) -> int:
        most = logits.shape[1] - 1
        if not 1 <= self.k <= most:
            raise BadInput(f"No label can leave the top {self.k} of {most + 1} classes; use 1 to {most}.")
        return self.k


@dataclasses.dataclass(frozen=True)
class Away:
    """Wrong class, climbing the divergence from reference probabilities `[N, K]` (TRADES, Zhang et al. 2019)."""

    y: Tensor
    reference: Tensor

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the top class is wrong."""
        return Untargeted(self.y).reached(logits)

    def gap(self, logits: Tensor) -> Tensor:
        """Best other class minus the label's."""
        return Untargeted(self.y).gap(logits)

    def lead(self, logits: Tensor) -> Tensor:
        """The gap, as it is differentiated."""
        return Untargeted(self.y).lead(logits)

    def surprise(self, logits: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the reference from the prediction."""
        return F.kl_div(F.log_softmax(logits, 1), self.reference, reduction="none").sum(1)
