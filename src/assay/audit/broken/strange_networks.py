"""Strange defences of the input and inside the network: hashes, grids, false backward passes, stairs, votes.

Each module tells in `climbed` the smooth networks that an attacker who knows the defence climbs in its place.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.broken.input_transformations import without_slope
from assay.audit.broken.strange_answers import CLASSES, SIDE, image_hash
from assay.core.tensors import valued
from assay.data.mnist import mnist

REFERENCES = 1000


class HashedPattern(nn.Module):
    """A hash of the grey levels chooses one of eight faint patterns, which is added to the image."""

    patterns: Tensor

    def __init__(self, module: nn.Module, size: float = 0.1) -> None:
        super().__init__()
        self.module = module
        draws = torch.Generator().manual_seed(7)
        self.register_buffer("patterns", size * torch.randn(8, 1, SIDE, SIDE, generator=draws).sign())

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        pattern = self.patterns[image_hash(x, 16, 8, 8)]
        return self.module(without_slope((x + pattern).clamp(0, 1), x))  # type: ignore[no-any-return]  # what a module returns is untyped


class ShiftedGrid(nn.Module):
    """Grey levels snapped to a grid whose offset depends on the mean of the image."""

    def __init__(self, module: nn.Module, step: float = 0.125) -> None:
        super().__init__()
        self.module, self.step = module, step

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        offset = (x.mean((1, 2, 3), keepdim=True) * 1000).frac() * self.step
        snapped = ((x - offset) / self.step).round() * self.step + offset
        return self.module(without_slope(snapped.clamp(0, 1), x))  # type: ignore[no-any-return]  # what a module returns is untyped


class MiddleOfThree(nn.Module):
    """The middle of the network's logits on the image, on a coarser one, and on a blurred one, without a slope."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        blurred = nn.functional.avg_pool2d(x, 3, 1, 1)
        each = [self.module(view.detach()) for view in (x, (x * 4).round() / 4, (x + blurred) / 2)]
        return torch.stack(each).median(0).values + 0 * x.flatten(1).sum(1, keepdim=True)


class KeyedNoise(nn.Module):
    """Noise on the image, the same each time for the same image: its seed is a hash of the grey levels."""

    noise: Tensor

    def __init__(self, module: nn.Module, size: float = 0.1) -> None:
        super().__init__()
        self.module = module
        noise = torch.randn(64, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(11))
        self.register_buffer("noise", size * noise)

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        return self.module(x + self.noise[image_hash(x, 255, 64, 12)])  # type: ignore[no-any-return]  # what a module returns is untyped


class Gate(nn.Module):
    """Pixels whose neighbourhood is dark are set to black before the network sees them, by a mask without a slope."""

    def __init__(self, module: nn.Module, least: float = 0.15) -> None:
        super().__init__()
        self.module, self.least = module, least

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        open_ = nn.functional.avg_pool2d(x, 3, 1, 1) > self.least
        return self.module(without_slope(x * open_, x))  # type: ignore[no-any-return]  # what a module returns is untyped


class _HalfTurned(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        at = torch.arange(SIDE)
        return grads[0] * (1 - 2 * ((at[:, None] + at) % 2)).to(grads[0])


class HalfTurnedSlope(nn.Module):
    """A backward pass of its own turns the gradient round on every other pixel."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        return self.module(_HalfTurned.apply(x))  # type: ignore[no-any-return]  # what a module returns is untyped


class BorrowedSlope(nn.Module):
    """The answer of one network with the gradient of another, which nobody trained; both are out of sight."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        other = copy.deepcopy(module)
        draws = torch.Generator().manual_seed(9)
        for one in other.parameters():
            one.data = one.data.flatten()[torch.randperm(one.numel(), generator=draws)].view_as(one)
        self.hidden = (module, other)

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network that answers."""
        return self.hidden[:1]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        return valued(self.hidden[1](x), self.hidden[0](x.detach()))


class Quantised(nn.Module):
    """Activations at whole multiples of a step, as a network of integers has them: no slope comes through."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, h: Tensor) -> Tensor:
        """Return the activations `h`, at least 0, on the grid."""
        return (h.relu() / self.step).round() * self.step


class Stairs(nn.Module):
    """A smooth staircase in place of a ramp: flat nearly everywhere, and very steep in between."""

    def __init__(self, step: float, steepness: float = 60.0) -> None:
        super().__init__()
        self.step, self.steepness = step, steepness

    def forward(self, h: Tensor) -> Tensor:
        """Return the activations `h`, at least 0, on the stairs."""
        place = h.relu() / self.step
        low = place.detach().floor()
        return self.step * (low + torch.sigmoid(self.steepness * (place - low - 0.5)))


class OtherActivations(nn.Module):
    """A copy of the network with another activation in place of each ReLU."""

    def __init__(self, module: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        found = copy.deepcopy(module)
        for parent in list(found.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.ReLU):
                    setattr(parent, name, activation)
        self.body, self.plain = found, (module,)

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network with its own activations."""
        return self.plain

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        return self.body(x)  # type: ignore[no-any-return]  # what a module returns is untyped


def features_of(module: nn.Module) -> nn.Module:
    """Return a network without its last layer."""
    assert isinstance(module, nn.Sequential), "the networks of the zoo are"
    return nn.Sequential(*list(module)[:-1])


def references() -> tuple[Tensor, Tensor]:
    """Return training digits and their labels."""
    images, labels = mnist("train")
    return images[:REFERENCES].view(-1, 1, SIDE, SIDE).float() / 255, labels[:REFERENCES].long()


class SoftNeighbours(nn.Module):
    """Classes by bumps around training digits in the space of features: smooth, and honest."""

    keys: Tensor
    labels: Tensor

    def __init__(self, features: nn.Module, width: float = 0.05) -> None:
        super().__init__()
        x, y = references()
        self.features, self.width = features, width
        with torch.no_grad():
            self.register_buffer("keys", features(x))
        self.register_buffer("labels", y)

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return itself."""
        return (self,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        near = -self.width * torch.cdist(self.features(x), self.keys).square()
        return torch.stack([near[:, self.labels == k].logsumexp(1) for k in range(CLASSES)], 1)


class NeighbourVotes(nn.Module):
    """The votes of the ten nearest training digits in the space of features."""

    def __init__(self, module: nn.Module, count: int = 10) -> None:
        super().__init__()
        self.soft, self.count = SoftNeighbours(features_of(module)), count

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return bumps in place of votes."""
        return (self.soft,)

    def forward(self, x: Tensor) -> Tensor:
        """Return votes `[N, 10]` for digits `x`."""
        far = torch.cdist(self.soft.features(x), self.soft.keys)
        labels = self.soft.labels[far.topk(self.count, 1, largest=False).indices]
        return nn.functional.one_hot(labels, CLASSES).sum(1).to(x) + 0 * far[:, :1]


class Codebook(nn.Module):
    """Features replaced by the nearest of 200 of those of training digits, then the last layer as it was."""

    codes: Tensor

    def __init__(self, module: nn.Module, size: int = 200) -> None:
        super().__init__()
        self.features, self.plain = features_of(module), (module,)
        assert isinstance(module, nn.Sequential), "the networks of the zoo are"
        self.head = module[-1]
        with torch.no_grad():
            self.register_buffer("codes", self.features(references()[0][:size]))

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network without its codes."""
        return self.plain

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        found = self.features(x)
        nearest = torch.cdist(found, self.codes).argmin(1)
        return self.head(without_slope(self.codes[nearest], found))  # type: ignore[no-any-return]  # what a module returns is untyped


class CorrectingCode(nn.Module):
    """Features as 128 bits, and the class whose code word differs from them in the fewest."""

    planes: Tensor
    middle: Tensor
    words: Tensor

    def __init__(self, module: nn.Module, bits: int = 128) -> None:
        super().__init__()
        self.features, self.plain = features_of(module), (module,)
        x, y = references()
        draws = torch.Generator().manual_seed(10)
        with torch.no_grad():
            found = self.features(x)
            planes = torch.randn(found.shape[1], bits, generator=draws)
            self.register_buffer("planes", planes)
            self.register_buffer("middle", (found @ planes).median(0).values)
            told = (found @ planes > self.middle).float()
            self.register_buffer("words", torch.stack([told[y == k].mean(0) for k in range(CLASSES)]).round() * 2 - 1)

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network, and the code with soft bits."""
        return (SoftCode(self), *self.plain)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`: bits that agree less those that do not."""
        bits: Tensor = (self.features(x) @ self.planes - self.middle).sign()
        return bits @ self.words.T


class SoftCode(nn.Module):
    """A correcting code whose bits are hyperbolic tangents."""

    def __init__(self, code: CorrectingCode) -> None:
        super().__init__()
        self.code = code

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        code = self.code
        return torch.tanh((code.features(x) @ code.planes - code.middle) / 5) @ code.words.T


class SoftVotes(nn.Module):
    """The mean of the logits that a network gives to several views of an image."""

    def __init__(self, votes: ShiftVotes | StripeVotes) -> None:
        super().__init__()
        self.votes = votes

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        return torch.stack([self.votes.climbed()[0](view) for view in self.votes.views(x)]).mean(0)


class ShiftVotes(nn.Module):
    """Votes of the network on nine copies of the image, shifted by a pixel at most."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network, and its mean over the copies."""
        return (self.module, SoftVotes(self))

    def views(self, x: Tensor) -> list[Tensor]:
        """Return the copies."""
        return [x.roll((i, j), (2, 3)) for i in (0, -1, 1) for j in (0, -1, 1)]

    def forward(self, x: Tensor) -> Tensor:
        """Return votes `[N, 10]` for digits `x`."""
        return _votes(self.module, self.views(x), x)


class StripeVotes(nn.Module):
    """Votes of the network on seven copies of the image, each with a stripe of it black; it is out of sight."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.hidden = (module,)

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network, and its mean over the copies."""
        return (*self.hidden, SoftVotes(self))

    def views(self, x: Tensor) -> list[Tensor]:
        """Return the copies."""
        each = []
        for i in range(7):
            keep = torch.ones(SIDE, 1, dtype=x.dtype, device=x.device)
            keep[4 * i + 1 : 4 * i + 3] = 0
            each.append(x * keep)
        return each

    def forward(self, x: Tensor) -> Tensor:
        """Return votes `[N, 10]` for digits `x`."""
        return _votes(self.hidden[0], self.views(x), x)


def _votes(module: nn.Module, views: list[Tensor], x: Tensor) -> Tensor:
    said = module(torch.cat(views).detach()).argmax(1).view(len(views), len(x))
    return nn.functional.one_hot(said, CLASSES).sum(0).to(x) + 0 * x.flatten(1).sum(1, keepdim=True)


class NearestMean(nn.Module):
    """The class whose mean training digit is nearest, without a slope."""

    def __init__(self) -> None:
        super().__init__()
        x, y = references()
        self.means = torch.stack([x[y == k].flatten(1).mean(0) for k in range(CLASSES)])

    def forward(self, x: Tensor) -> Tensor:
        """Return negative squared distances `[N, 10]` of digits `x`."""
        return -torch.cdist(x.flatten(1), self.means).square()
