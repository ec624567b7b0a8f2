"""Strange defences of the answer: waves, humps, ranks, temperatures and switches between networks.

Each module tells in `climbed` the smooth networks that an attacker who knows the defence climbs in its place. Some keep
the network where `named_modules` does not see it: a defence need not say what it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from assay.audit.broken.input_transformations import without_slope
from assay.core.tensors import valued

CLASSES, SIDE = 10, 28


def directions(count: int, seed: int) -> Tensor:
    """Return so many random directions of digits, `[count, 784]`, of length 1."""
    draws = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(count, SIDE * SIDE, generator=draws), dim=1)


def gap_of(logits: Tensor) -> Tensor:
    """Return the gap `[N, 1]` between the two highest logits."""
    top = logits.topk(2, 1).values
    return (top[:, :1] - top[:, 1:]).clamp_min(1e-6)


class Wave(nn.Module):
    """Logits plus a small smooth wave, far steeper than the network along a few directions of the image."""

    along: Tensor
    mix: Tensor

    def __init__(self, module: nn.Module, height: float = 0.5, pitch: float = 40.0) -> None:
        super().__init__()
        self.module, self.height, self.pitch = module, height, pitch
        self.register_buffer("along", directions(3, 0))
        self.register_buffer("mix", torch.randn(3, CLASSES, generator=torch.Generator().manual_seed(1)))

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network without its wave."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        logits: Tensor = self.module(x)
        wave = torch.sin(self.pitch * (x.flatten(1) @ self.along.T))
        return logits + self.height * wave @ self.mix


class HiddenRipples(nn.Module):
    """Triangular ripples on logits along smooth directions of the image; the network is out of sight."""

    along: Tensor
    mix: Tensor

    def __init__(self, module: nn.Module, height: float = 0.6, period: float = 0.15) -> None:
        super().__init__()
        self.hidden, self.height, self.period = (module,), height, period
        at = (torch.arange(SIDE) + 0.5) / SIDE * math.pi
        waves = [
            torch.outer(torch.cos(i * at), torch.cos(j * at)).flatten() for i, j in ((1, 2), (2, 1), (2, 2), (3, 1))
        ]
        self.register_buffer("along", nn.functional.normalize(torch.stack(waves), dim=1))
        self.register_buffer("mix", torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(2)))

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network without its ripples."""
        return self.hidden

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        logits: Tensor = self.hidden[0](x)
        place = x.flatten(1) @ self.along.T / self.period
        ripples = 2 * (2 * (place - (place + 0.5).floor())).abs() - 1
        return logits + self.height * ripples @ self.mix


class TakeOver(nn.Module):
    """Where the gap of the first network gets small, a second one answers with its class alone."""

    def __init__(self, module: nn.Module, second: nn.Module, least: float = 4.0) -> None:
        super().__init__()
        self.module, self.second, self.least = module, second, least

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return both networks, and their mean."""
        return (self.module, self.second, Mean(self.module, self.second))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        logits: Tensor = self.module(x)
        said = nn.functional.one_hot(self.second(x.detach()).argmax(1), CLASSES).to(logits) * self.least
        return torch.where(gap_of(logits) < self.least, said, logits)


class Mean(nn.Module):
    """The mean of the logits of two networks: an ensemble, and an honest one."""

    def __init__(self, module: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.module, self.second = module, second

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return itself."""
        return (self,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        return (self.module(x) + self.second(x)) / 2  # type: ignore[no-any-return]  # what a module returns is untyped


class Humps(nn.Module):
    """The gap between label and runner-up in humps: confidence falls, rises and falls on the way to the boundary."""

    def __init__(self, module: nn.Module, period: float = 1.0) -> None:
        super().__init__()
        self.module, self.period = module, period

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        logits: Tensor = self.module(x)
        gap = gap_of(logits)
        return logits / gap * (3 + 2.9 * torch.cos(2 * math.pi * gap / self.period))


class HiddenSawtooth(nn.Module):
    """Logits scaled to a gap that falls in teeth as the network grows less sure; the network is out of sight."""

    def __init__(self, module: nn.Module, teeth: float = 3.0) -> None:
        super().__init__()
        self.hidden, self.teeth = (module,), teeth

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return self.hidden

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        logits: Tensor = self.hidden[0](x)
        gap = gap_of(logits)
        place = self.teeth * (1 + gap).log()
        # between the jumps more is told where the network is less sure
        return logits / gap * (1 + 4 * (place.ceil() - place))


class Temperature(nn.Module):
    """Logits over a temperature that swings over orders of magnitude along a direction of the image."""

    along: Tensor

    def __init__(self, module: nn.Module, pitch: float = 30.0, swing: float = 4.0) -> None:
        super().__init__()
        self.module, self.pitch, self.swing = module, pitch, swing
        self.register_buffer("along", directions(1, 3))

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        logits: Tensor = self.module(x)
        place = x.flatten(1) @ self.along.T
        return logits * torch.exp(self.swing * torch.sin(self.pitch * place))


class ConstantGap(nn.Module):
    """Logits scaled so that label and runner-up are always as far apart; the network is out of sight."""

    def __init__(self, module: nn.Module, gap: float = 20.0) -> None:
        super().__init__()
        self.hidden, self.gap = (module,), gap

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return self.hidden

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        logits: Tensor = self.hidden[0](x)
        return logits / gap_of(logits) * self.gap


class HiddenRanks(nn.Module):
    """The ranks of the logits in place of their values, without any slope; the network is out of sight."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.hidden = (module,)

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return self.hidden

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        ranks: Tensor = self.hidden[0](x.detach()).argsort(1).argsort(1).to(x)
        return ranks + 0 * x.flatten(1).sum(1, keepdim=True)


class RanksWithFalseSlope(nn.Module):
    """The ranks of the logits, with the gradient of a random linear model."""

    slope: Tensor

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("slope", directions(CLASSES, 4))

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        ranks = self.module(x.detach()).argsort(1).argsort(1).to(x)
        return valued(x.flatten(1) @ self.slope.T, ranks)


class HiddenDecoy(nn.Module):
    """The class alone, plus a small smooth function of the image that leads elsewhere; the network is out of sight."""

    along: Tensor

    def __init__(self, module: nn.Module, height: float = 1.0) -> None:
        super().__init__()
        self.hidden, self.height = (module,), height
        self.register_buffer("along", directions(CLASSES, 5))

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return self.hidden

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        said = nn.functional.one_hot(self.hidden[0](x.detach()).argmax(1), CLASSES).to(x)
        return 10 * said + self.height * torch.tanh(x.flatten(1) @ self.along.T)


class GapSwitch(nn.Module):
    """Sure answers are flat; where the gap gets small the slope of the logits is turned round."""

    def __init__(self, module: nn.Module, least: float = 3.0) -> None:
        super().__init__()
        self.module, self.least = module, least

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        logits: Tensor = self.module(x)
        sure = nn.functional.one_hot(logits.argmax(1), CLASSES).to(logits) * 2 * self.least
        return torch.where(gap_of(logits) < self.least, valued(-logits, logits), without_slope(sure, logits))


def image_hash(x: Tensor, levels: int, values: int, seed: int) -> Tensor:
    """Return a number below `values` for each image, which changes with nearly any change of its grey levels."""
    draws = torch.Generator().manual_seed(seed)
    weights = torch.randint(1, 2**20, (SIDE * SIDE,), generator=draws)
    return ((x.detach().flatten(1) * levels).round().long() * weights).sum(1) % 8191 % values


class HashSwitch(nn.Module):
    """A hash of the grey levels says which of two networks answers."""

    def __init__(self, module: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.module, self.second = module, second

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the mean of both, and each."""
        return (Mean(self.module, self.second), self.module, self.second)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        first = (image_hash(x, 64, 2, 6) == 0)[:, None]
        return torch.where(first, self.module(x), self.second(x))


def _kept_in_a_closure(module: nn.Module) -> Callable[[Tensor], Tensor]:
    def answer(x: Tensor) -> Tensor:
        logits: Tensor = module(x)
        return logits

    return answer


class Swinging(nn.Module):
    """Each logit plus a steep sine of itself; the network is out of sight, in a closure."""

    def __init__(self, module: nn.Module, height: float = 1.0, pitch: float = 6.0) -> None:
        super().__init__()
        self.kept, self.answer = (module,), _kept_in_a_closure(module)
        self.height, self.pitch = height, pitch

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return self.kept

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        logits = self.answer(x)
        return logits + self.height * torch.sin(self.pitch * logits)


class Sharp(nn.Module):
    """Logits times a constant: honest, if the attack does not saturate."""

    def __init__(self, module: nn.Module, factor: float = 3.0) -> None:
        super().__init__()
        self.module, self.factor = module, factor

    def climbed(self) -> tuple[nn.Module, ...]:
        """Return the network."""
        return (self.module,)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, 10]` of digits `x`."""
        return self.module(x) * self.factor  # type: ignore[no-any-return]  # what a module returns is untyped
