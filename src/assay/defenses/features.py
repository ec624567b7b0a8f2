"""What the layers of a network are given when it is asked about images: the features that detectors compare."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.errors import BadInput, did_you_mean
from assay.core.signals import Signals, signals_of
from assay.defenses.layers import Refusing

Layer = Annotated[
    str | None, Option("The layer whose input is compared; without it the last linear one.", pattern="[^+]+")
]
Layers = Annotated[
    str | None,
    Option("The layers whose inputs are compared, NAME+NAME; without it up to four, the last linear one among them."),
]

_INSTEAD = "Detectors that read answers alone need none: max-softmax, margin, energy, squeeze-detector."
_MOST_LAYERS = 4


class Heard(NamedTuple):
    """What a network said of images, and what its layers were given: each `[N, F]`, at least float32."""

    signals: Signals
    features: tuple[Tensor, ...]

    @property
    def joined(self) -> Tensor:
        """The features of all layers side by side, `[N, F]`."""
        return torch.cat(self.features, 1)

    @property
    def told(self) -> Signals:
        """The signals with these features, for attacks that know the detector."""
        return self.signals._replace(features=self.joined)


def heard(inner: nn.Module, x: Tensor, layers: Sequence[str]) -> Heard:
    """Ask `inner` about images `x`, and hear what `layers` (see `last_linear`, `several`) of its network are given.

    Maps `[N, F, H, W]` and tokens `[N, T, F]` count by their means. Where something inside asks the network several
    times, the first time counts. Raises `BadInput` for a layer that is not called, or not with one row per image.
    """
    found: dict[str, Tensor] = {}
    modules = dict(network_of(inner).named_modules())
    with contextlib.ExitStack() as stack:
        for name in layers:
            hook = modules[name].register_forward_pre_hook(functools.partial(_keep, found, name))
            stack.callback(hook.remove)
        seen = signals_of(inner, x)
    for name in layers:
        if name not in found or len(found[name]) != len(x):
            shown = f"with {list(found[name].shape)} for {len(x)} images" if name in found else "not at all"
            raise BadInput(
                f"The layer {name!r} of the model is called {shown}; a detector compares what it is given, one row per "
                f"image. Name another layer, or leave what asks about several copies out of the chain. {_INSTEAD}"
            )
    return Heard(seen, tuple(_flat(found[name]) for name in layers))


def _keep(found: dict[str, Tensor], name: str, module: nn.Module, given: tuple[Any, ...]) -> None:
    if name not in found and given and isinstance(given[0], Tensor):
        found[name] = given[0]


def _flat(value: Tensor) -> Tensor:
    value = value.to(torch.promote_types(value.dtype, torch.float32))
    return value.flatten(2).mean(2) if value.ndim > 3 else value.mean(1) if value.ndim == 3 else value


def network_of(module: nn.Module) -> nn.Module:
    """Return the network that defences stand around."""
    while callable(getattr(module, "signals", None)):
        inside = module.network if isinstance(module, Refusing) else getattr(module, "inner", None)
        if not isinstance(inside, nn.Module):
            break
        module = inside
    return module


def last_linear(inner: nn.Module, named: str | None = None) -> tuple[str, ...]:
    """Return the name of the layer whose input is compared: the last linear one of the network, or the one named.

    Raises `BadInput` where there is none.
    """
    layers = _layers(inner)
    if named is not None:
        return (_known(named, layers),)
    linear = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]
    if not linear:
        raise BadInput(f"The model has no linear layer whose input a detector could compare. Name a layer. {_INSTEAD}")
    return (linear[-1],)


def several(inner: nn.Module, named: str | None = None) -> tuple[str, ...]:
    """Return the names of the layers whose inputs are compared: those named, or up to four.

    These are spread evenly over convolutions (but the first, which is given the image) and pooling layers, and the last
    linear one. Raises `BadInput` where there is none.
    """
    layers = _layers(inner)
    if named is not None:
        return tuple(_known(name.strip(), layers) for name in named.split("+"))
    (last,) = last_linear(inner)
    maps = [name for name, layer in layers.items() if isinstance(layer, nn.Conv2d)][1:]
    pools = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
    maps += [name for name, layer in layers.items() if isinstance(layer, pools)]
    maps = [name for name in layers if name in maps]
    some = min(len(maps), _MOST_LAYERS - 1)
    return (*(maps[(at + 1) * len(maps) // some - 1] for at in range(some)), last)


def _layers(inner: nn.Module) -> dict[str, nn.Module]:
    network = network_of(inner)
    scripts: Iterator[nn.Module] = (
        one
        for one in network.modules()
        if isinstance(one, torch.jit.ScriptModule) or one is not getattr(one, "_orig_mod", one)
    )
    if next(scripts, None) is not None:
        raise BadInput(f"The model is compiled (TorchScript, torch.compile): its layers cannot be heard. {_INSTEAD}")
    return {name: layer for name, layer in network.named_modules() if name}


def _known(name: str, layers: dict[str, nn.Module]) -> str:
    if name not in layers:
        near = did_you_mean(name, layers)
        some = ", ".join(list(layers)[-8:]) or "none that can be heard"
        raise BadInput(f"The model has no layer {name!r}.{near} Its last layers: {some}. {_INSTEAD}")
    return name


class Guides(NamedTuple):
    """One row per class `[K, ...]`: mean features and mean logits of its training images that the network gets right.

    Attacks that know a detector bring an image near those of another class.
    """

    features: Tensor
    logits: Tensor


def guides(features: Tensor, logits: Tensor, labels: Tensor) -> Guides:
    """Return the guides of training images; a class without one gets the means of all."""
    right = logits.argmax(1) == labels
    right = right if bool(right.any()) else torch.ones_like(right)
    rows = [torch.stack([_mean(part, right & (labels == k), right) for k in range(logits.shape[1])])
            for part in (features, logits)]  # fmt: skip
    return Guides(*rows)


def _mean(part: Tensor, own: Tensor, right: Tensor) -> Tensor:
    return part[own if bool(own.any()) else right].double().mean(0).to(part.dtype)
