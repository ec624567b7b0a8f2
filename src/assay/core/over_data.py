"""Optimising over a data set: a row is a variable, a look is one mini-batch, and `search` is still the only loop.

A variable is anything that changes images when it is applied to them: a patch, a universal perturbation. Several
targets or several starts are several rows; they share the images of a look.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Goal, Targeted, Untargeted, excluded
from assay.core.objective import Objective
from assay.core.oracle import Access, Cost, Observation, Oracle

Apply = Callable[[Tensor, Tensor, Draws], Tensor]
"""`(variables [V, *S], images [B, C, H, W], draws of the V variables) -> [V, B, C, H, W]`, by operations that torch can
differentiate with respect to the variables. The images are left as they are."""


class Images(Protocol):
    """Labelled images addressed by position."""

    def __len__(self) -> int:
        """Return how many there are."""

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (float32 `[B, C, H, W]` in [0, 1]) and labels (int64 `[B]`) of the positions."""


@dataclasses.dataclass(frozen=True)
class OverData:
    """The oracle of variables over `images`: each look applies every variable to one mini-batch of `batch` images.

    The images are walked through epoch by epoch, each in an order drawn under `seed`; what does not fill a mini-batch
    at the end of an epoch is left out of it. The answer of a look is, per variable, the mean over the batch of the
    objective, its gradient and the logits; `gap` is the share of images that reached the goal minus `rate`, and a
    variable has reached it from there on; images whose label is the target are not counted. A goal with targets holds
    one per variable; labels are the images' own.

    Raises `BadInput` for a batch that the images do not fill.
    """

    oracle: Oracle
    images: Images
    apply: Apply
    batch: int
    seed: int = 0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= len(self.images):
            raise BadInput(
                f"A batch of {self.batch} cannot be drawn from {len(self.images)} images. Use a smaller one."
            )

    @property
    def looks(self) -> int:
        """How many looks an epoch has."""
        return len(self.images) // self.batch

    def positions(self, look: int) -> Tensor:
        """Return which images look number `look` is about, int64 `[batch]`."""
        epoch, number = divmod(look, self.looks)
        everyone = Draws(torch.arange(len(self.images))).fold("order").fold(self.seed).fold(epoch)
        order = everyone.uniform("place", 1).squeeze(1).argsort(stable=True)
        return order[number * self.batch : (number + 1) * self.batch]

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask about one mini-batch under every variable `[V, *S]`; see `Oracle`."""
        images, labels = (part.to(points.device) for part in self.images.batch(self.positions(draws.look)))
        several, many = len(points), len(images)
        variables = points.detach().requires_grad_(access is Access.GRADIENT)
        with torch.set_grad_enabled(access is Access.GRADIENT):
            changed = self.apply(variables, images, draws)
        inner = Draws((draws.ids[:, None] * _ODD + torch.arange(many, device=points.device)).flatten(), draws.key)
        asked = spread(goal, labels)
        seen = self.oracle.look(changed.detach().flatten(0, 1), asked, objective, access, inner)
        grad = None
        if seen.grad is not None:
            outer = seen.grad.view_as(changed) / many
            grad = torch.autograd.grad(changed, variables, outer.to(changed.dtype))[0]
        # an image of the target's own class says nothing of the variable
        counted = ~excluded(asked)
        each = ((seen.reached & counted).to(points.dtype), counted.to(points.dtype))
        hit, of = (part.view(several, many).sum(1) for part in each)
        hits = hit / of.clamp_min(1)
        return Observation(
            seen.logits.view(several, many, -1).mean(1),
            seen.loss.view(several, many).mean(1),
            hits - self.rate,
            hits >= self.rate,
            grad,
            Cost(*(part.view(several, many).sum(1) for part in seen.cost)),
            # logits are means over images, not answers about a point
            torch.zeros(several, dtype=torch.bool, device=points.device),
        )


# keeps the draws of (variable, image) pairs apart
_ODD = 1_000_003


def spread(goal: Goal, labels: Tensor) -> Goal:
    """Return the goal of V variables as that of V x B images with `labels` `[B]`, variable by variable.

    Raises `BadInput` for a goal that is neither `Untargeted` nor `Targeted`.
    """
    several = len(goal.y)
    everyone = labels.repeat(several)
    if isinstance(goal, Targeted):
        return Targeted(everyone, goal.t.repeat_interleave(len(labels)), goal.reject)
    if isinstance(goal, Untargeted):
        return Untargeted(everyone, goal.reject)
    raise BadInput(f"A variable over a data set is targeted or untargeted; the goal is {type(goal).__name__}.")


@dataclasses.dataclass(frozen=True)
class Together:
    """Several models asked as one: means of their logits, objectives and gradients, and the sum of their passes.

    Raises `BadInput` where the models have different numbers of classes.
    """

    oracles: tuple[Oracle, ...]

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask every model about the same points; see `Oracle`."""
        each = [oracle.look(points, goal, objective, access, draws) for oracle in self.oracles]
        sizes = {seen.logits.shape[1] for seen in each}
        if len(sizes) > 1:
            raise BadInput(
                f"The models have {' and '.join(map(str, sorted(sizes)))} classes; expected the same classes."
            )
        logits = _mean([seen.logits for seen in each])
        grads = [seen.grad for seen in each if seen.grad is not None]
        return Observation(
            logits,
            _mean([seen.loss for seen in each]),
            goal.gap(logits),
            goal.reached(logits),
            _mean(grads) if grads else None,
            Cost(*(torch.stack(parts).sum(0) for parts in zip(*(seen.cost for seen in each), strict=True))),
        )


def _mean(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).mean(0)
