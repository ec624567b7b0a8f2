"""A model that counts what goes through it, whoever attacks it, and can watch one image's queries."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

# a point on the boundary is broken or not by rounding alone, which differs with the batch; it counts for everyone
ROUNDING = 1e-5


class Spent(Exception):
    """The watched image's queries are used up, or it is broken: nothing more is to be learnt."""


def sizes(z: Tensor, x: Tensor, norm: str) -> Tensor:
    """Return the size `[N]` of the change in "linf", "l2", "l1" or "l0" (values that changed)."""
    change = (z - x).flatten(1).abs()
    match norm:
        case "linf":
            return change.amax(1)
        case "l2":
            return change.norm(dim=1)
        case "l1":
            return change.sum(1)
        case "l0":
            return (change > 1e-6).sum(1).to(x.dtype)
    raise ValueError(f"norm is {norm!r}, expected linf, l2, l1 or l0.")


def wrong(logits: Tensor, y: Tensor) -> Tensor:
    """Return bool `[N]`: rows where another class is at least level with the label's, up to rounding."""
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -math.inf).amax(1)
    return others - own >= -ROUNDING * logits.abs().amax(1).clamp_min(1.0)


@dataclasses.dataclass
class Watch:
    """One image under attack: after how many queries it was first broken within `eps`, and how closely by then.

    Without `eps` the attack goes on to `limit` queries, and `smallest` is the distance reached.
    """

    x: Tensor
    y: Tensor
    norm: str
    eps: float | None
    limit: int
    asked: int = 0
    first: int | None = None
    smallest: float = math.inf

    def see(self, points: Tensor, logits: Tensor) -> None:
        """Take note of a pass; raises `Spent` when the image is done."""
        paid = points[: self.limit - self.asked].clamp(0.0, 1.0)
        if len(paid):
            hit = wrong(logits[: len(paid)], self.y.expand(len(paid)))
            size = sizes(paid, self.x, self.norm)
            if self.eps is not None:
                hit &= size <= self.eps * (1 + 1e-4)
            if bool(hit.any()):
                at = int(hit.nonzero()[0])
                self.first = self.first or self.asked + at + 1
                self.smallest = min(self.smallest, float(size[hit].min()))
        self.asked += len(points)
        if self.asked >= self.limit or (self.eps is not None and self.first is not None):
            raise Spent


class Counted(nn.Module):
    """A model that counts the rows of its forward and backward passes.

    It tells its input shape and its number of classes, which ART wants to know. `as_probabilities` is for attacks
    that take nothing else.
    """

    def __init__(self, module: nn.Module, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.module = module
        self.input_shape, self.classes = input_shape, classes
        self.forwards = self.backwards = 0
        self.watch: Watch | None = None
        self.as_probabilities = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        self.forwards += len(x)
        # ART hands over doubles
        logits: Tensor = self.module(x.float())
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        if self.watch is not None:
            self.watch.see(x.detach(), logits.detach())
        return logits.softmax(1) if self.as_probabilities else logits

    def _count_backward(self, grad: Tensor) -> None:
        self.backwards += len(grad)

    @torch.no_grad()
    def likeliest_wrong(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the likeliest wrong class `[N]` of images."""
        return self(x).scatter(1, y[:, None], -math.inf).argmax(1)


@torch.no_grad()
def answers(module: nn.Module, x: Tensor) -> Tensor:
    """Return the logits of `x` in passes of 100."""
    return torch.cat([module(part) for part in x.split(100)])
