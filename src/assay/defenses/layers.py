"""What stands around a network: a step in front of it, or a detector beside it that may refuse an image.

Both are modules that take images `[N, C, H, W]` in [0, 1], and both have `signals` (see `core.signals`), so they stand
inside each other in any order. The answers of a chain with a detector have one class more, the last: "refused".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from assay.core.draws import nested
from assay.core.signals import Signals, excess_of, signals_of, with_refusal

Batches = Iterable[tuple[Tensor, Tensor]]
"""Images `[N, C, H, W]` in [0, 1] and labels `[N]`, batch by batch; can be walked through again and again."""


class Transformed(nn.Module):
    """`inner(step(x))`: what is inside sees the images that `step` makes."""

    def __init__(self, step: nn.Module, inner: nn.Module) -> None:
        super().__init__()
        # the network first: the precision of a model is that of its first parameter
        self.inner, self.step = inner, step

    def signals(self, x: Tensor) -> Signals:
        """Return what is said of the changed images."""
        changed = self.step(x)
        with nested("inner"):
            return signals_of(self.inner, changed)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is inside says of the changed images, as it says it: one score per image stays one."""
        changed = self.step(x)
        with nested("inner"):
            return self.inner(changed)  # type: ignore[no-any-return]  # what a module returns is untyped


class Refusing(nn.Module):
    """A network whose last class means "refused", such as a user's own, as something that defences stand around."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def signals(self, x: Tensor) -> Signals:
        """Return the classes' logits, and the refusal's as an excess."""
        logits: Tensor = self.network(x)
        return Signals(logits[:, :-1], excess_of(logits))

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's own logits `[N, K + 1]`."""
        return self.network(x)  # type: ignore[no-any-return]  # what a module returns is untyped


class Detection(NamedTuple):
    """What a detector says: the signals of what is inside, and its `score` `[N]`, high where an image looks attacked.

    The signals carry the views and features that the score was made of.
    """

    inside: Signals
    score: Tensor


class Detector(Protocol):
    """A module that looks at images and at what is inside: `detector(x, inner) -> Detection`.

    What it must know is in its buffers and parameters. It must not depend on the other images of a batch.
    """

    def __call__(self, x: Tensor, inner: nn.Module, /) -> Detection:
        """Ask `inner` about images `x`, and score them."""


@runtime_checkable
class FromStatistics(Protocol):
    """A step or detector that is fitted by one walk over training images, such as a mean of features."""

    def fit(self, batches: Batches, inner: nn.Module) -> None:
        """Set the buffers from images and labels. `inner` is what stands inside, in eval mode."""


@runtime_checkable
class FromTraining(Protocol):
    """A step or detector with weights, which are trained by descent on the loss of batches."""

    def begin(self, images: Tensor, classes: int) -> None:
        """Make the weights for images such as these `[N, C, H, W]`, drawn under torch's seed."""

    def loss(self, x: Tensor, y: Tensor, inner: nn.Module) -> Tensor:
        """Return the loss of a batch, a number with a gradient to the own parameters. `inner` does not learn."""


@runtime_checkable
class FromAttacked(Protocol):
    """A detector whose training learns from attacked images too, which are made once."""

    def examples(self, x: Tensor, y: Tensor, inner: nn.Module) -> tuple[Tensor, Tensor]:
        """Return what is learned from a batch of images: images and targets, of any number."""


@runtime_checkable
class Restored(Protocol):
    """A step or detector whose buffers or weights have shapes that only a fit knows."""

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave after a fit; the shapes are those of `state`."""


class Rejecting(nn.Module):
    """What is inside, and a detector: an image is refused where its score is above `threshold` (a tie is accepted).

    `scale` turns the distance from the threshold into logits; it changes no answer, only how attacks weigh the two. Two
    detectors inside each other refuse what either refuses.
    """

    threshold: Tensor
    scale: Tensor

    def __init__(self, detector: nn.Module, inner: nn.Module, threshold: float, scale: float = 1.0) -> None:
        super().__init__()
        # the network first: the precision of a model is that of its first parameter
        self.inner, self.detector = inner, detector
        self.register_buffer("threshold", torch.tensor(threshold, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def signals(self, x: Tensor) -> Signals:
        """Return the signals of what is inside, with this detector's refusal."""
        seen: Detection = self.detector(x, self.inner)
        excess = self.scale.to(seen.score) * (seen.score - self.threshold.to(seen.score))
        if seen.inside.excess is not None:
            excess = torch.maximum(excess, seen.inside.excess.to(excess))
        return seen.inside._replace(excess=excess)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K + 1]` of images `x`, the last class "refused"."""
        return with_refusal(self.signals(x))


def refuses(module: nn.Module) -> bool:
    """Whether the answers of a network and what stands around it have one class more, "refused"."""
    at: object = module
    while isinstance(at, nn.Module) and not (isinstance(at, (Rejecting, Refusing)) or getattr(at, "refuses", False)):
        at = getattr(at, "inner", None) if callable(getattr(at, "signals", None)) else None
    return at is not None


def adopt(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a step or detector what its fit had found. Raises `KeyError` and `RuntimeError` for what does not fit it."""
    if isinstance(module, Restored):
        module.adopt(state)
        return
    own: dict[str, Any] = dict(module.named_buffers())
    for name in [name for name in state if name in own and "." not in name]:
        # a buffer that is empty until it is fitted has no shape to compare
        module.register_buffer(name, state[name])
    module.load_state_dict(state)
