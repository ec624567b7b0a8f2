"""Detectors with networks of their own, trained on clean images or on clean and attacked ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.draws import nested
from assay.core.errors import BadInput
from assay.core.oracle import LookPasses
from assay.core.signals import Signals, signals_of
from assay.defenses.attacked import Size, attacked
from assay.defenses.denoisers import Autoencoder
from assay.defenses.features import Layers, heard, several
from assay.defenses.layers import Detection

_HIDDEN = 128


class BinaryDetector(nn.Module):
    """The logit "attacked" of a small network, trained on clean and attacked images.

    On the image it has three convolutions of stride 2 and a linear layer on the means of their maps (cf. Gong et al.
    2017), on features one hidden layer (cf. Metzen et al. 2017). What is inside learns nothing.
    """

    def __init__(
        self,
        *,
        on: Annotated[Literal["image", "features"], Option("What it looks at.")] = "image",
        layers: Layers = None,
        size: Size = None,
    ) -> None:
        super().__init__()
        if layers is not None and on == "image":
            raise BadInput(f"layers is {layers!r}, and the detector looks at the image. Leave it out, or on=features.")
        self.on, self.layers, self.size = on, layers, size
        self.network: nn.Module | None = None

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"on={self.on}, layers={self.layers}"

    def begin(self, images: Tensor, classes: int) -> None:
        """Make the weights for images such as these; how many features there are, the first batch says."""
        self.network = _seeing(images.shape[1]) if self.on == "image" else _head(nn.LazyLinear(_HIDDEN), 1)

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Take over the weights of a fit."""
        given = state["network.0.weight"].shape[1]
        self.network = _seeing(given) if self.on == "image" else _head(nn.Linear(given, _HIDDEN), 1)
        self.load_state_dict(state)

    def examples(self, x: Tensor, y: Tensor, inner: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the images with target 0, and attacked ones that fool the network with target 1."""
        return _with_attacked(x, torch.zeros_like(y), 1, attacked(inner, x, y, self.size))

    def loss(self, x: Tensor, y: Tensor, inner: nn.Module) -> Tensor:
        """Return the cross-entropy, to which clean and attacked images contribute the same."""
        logits = self._logit(x, inner)[1]
        return _balanced(F.binary_cross_entropy_with_logits(logits, y.to(logits), reduction="none"), y == 1)

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        return Detection(*self._logit(x, inner))

    def _logit(self, x: Tensor, inner: nn.Module) -> tuple[Signals, Tensor]:
        network = _there(self.network, "binary-detector")
        if self.on == "image":
            seen, shown = signals_of(inner, x), x
        else:
            found = heard(inner, x, several(inner, self.layers))
            seen, shown = found.told, found.joined
        return seen, network(shown.to(next(network.parameters()).dtype)).squeeze(1)


class ExtraClass(nn.Module):
    """A class "attacked" beside the K of the network (Grosse et al. 2017): its logit's lead over the others.

    A head with one hidden layer on the network's features gives K + 1 logits; it is trained on clean images and on
    attacked ones, and the network's own answer stands. Grosse et al. train a whole network anew.
    """

    def __init__(self, *, layers: Layers = None, size: Size = None) -> None:
        super().__init__()
        self.layers, self.size = layers, size
        self.classes = 0
        self.network: nn.Module | None = None

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"layers={self.layers}"

    def begin(self, images: Tensor, classes: int) -> None:
        """Make the weights; how many features there are, the first batch says."""
        self.classes = classes
        self.network = _head(nn.LazyLinear(_HIDDEN), classes + 1)

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Take over the weights of a fit."""
        self.network = _head(nn.Linear(state["network.0.weight"].shape[1], _HIDDEN), len(state["network.2.bias"]))
        self.load_state_dict(state)

    def examples(self, x: Tensor, y: Tensor, inner: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the images with their labels, and attacked ones that fool the network with target K."""
        return _with_attacked(x, y, self.classes, attacked(inner, x, y, self.size))

    def loss(self, x: Tensor, y: Tensor, inner: nn.Module) -> Tensor:
        """Return the cross-entropy, to which clean and attacked images contribute the same."""
        logits = self._logits(x, inner)[1]
        return _balanced(F.cross_entropy(logits, y, reduction="none"), y == logits.shape[1] - 1)

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        seen, logits = self._logits(x, inner)
        return Detection(seen, logits[:, -1] - logits[:, :-1].amax(1))

    def _logits(self, x: Tensor, inner: nn.Module) -> tuple[Signals, Tensor]:
        network = _there(self.network, "extra-class")
        found = heard(inner, x, several(inner, self.layers))
        return found.told, network(found.joined.to(next(network.parameters()).dtype))


class MagNet(nn.Module):
    """How badly a denoising autoencoder restores the image (Meng and Chen 2017).

    `l1` and `l2` are the mean absolute error and the root of the mean squared one; `jsd` is the Jensen-Shannon
    divergence of the softmax at a `temperature` between the image and what is restored, and asks twice. The answer is
    that about the image itself: MagNet's reformer is the defence `autoencoder`, in front of it.
    """

    def __init__(
        self,
        *,
        measure: Annotated[Literal["l1", "l2", "jsd"], Option("What is compared.")] = "l1",
        temperature: Annotated[float, Option("What logits are divided by, for jsd.", above=True)] = 10.0,
    ) -> None:
        super().__init__()
        self.measure, self.temperature = measure, temperature
        self.autoencoder = Autoencoder()

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"measure={self.measure}, temperature={self.temperature:g}"

    def begin(self, images: Tensor, classes: int) -> None:
        """Make the weights for images such as these."""
        self.autoencoder.begin(images, classes)

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Take over the weights of a fit."""
        self.autoencoder.adopt({name.removeprefix("autoencoder."): one for name, one in state.items()})

    def loss(self, x: Tensor, y: Tensor, inner: nn.Module) -> Tensor:
        """Return the autoencoder's loss on a batch."""
        return self.autoencoder.loss(x, y, inner)

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        """Return the detection for images `x`."""
        seen, restored = signals_of(inner, x), self.autoencoder(x)
        if self.measure == "jsd":
            with nested("restored"):
                other = signals_of(inner, restored).logits
            views = torch.stack([seen.logits, other], 1)
            return Detection(seen._replace(views=views), _divergence(views.float() / self.temperature))
        away = (x - restored).float().flatten(1)
        return Detection(seen, away.abs().mean(1) if self.measure == "l1" else away.square().mean(1).add(1e-12).sqrt())


def magnet_passes(options: Mapping[str, Any]) -> LookPasses:
    """Return the passes of MagNet: its divergence asks about the restored image too."""
    return LookPasses(2, 2) if options["measure"] == "jsd" else LookPasses()


def _divergence(views: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence `[N]` between the softmax of two views `[N, 2, K]`, in nats."""
    logs = views.log_softmax(2)
    middle = logs.logsumexp(1, keepdim=True) - torch.log(views.new_tensor(2.0))
    return (logs.exp() * (logs - middle)).sum(2).mean(1)


def _with_attacked(x: Tensor, y: Tensor, target: int, made: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    images, fooled = made
    others = images[fooled]
    return torch.cat([x, others]), torch.cat([y, torch.full_like(y[: len(others)], target)])


def _balanced(lost: Tensor, positive: Tensor) -> Tensor:
    both = [part.mean() for part in (lost[positive], lost[~positive]) if len(part)]
    return torch.stack(both).mean()


def _there(network: nn.Module | None, name: str) -> nn.Module:
    if network is None:
        raise BadInput(f"The {name} has no weights yet: assay defend fit.")
    return network


def _seeing(channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for given, made in ((channels, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(given, made, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1))


def _head(first: nn.Module, answers: int) -> nn.Module:
    return nn.Sequential(first, nn.ReLU(), nn.Linear(_HIDDEN, answers))
