"""One small network in every form in which a model can be handed over, and what plain torch says of it."""

from __future__ import annotations

import copy
import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import assay
from assay.core.oracle import Access
from tests.support.ways_pictures import LABELS, MISTAKEN, SIDE, images

EPS = "24/255"
MEAN, STD = (0.45, 0.4, 0.5), (0.2, 0.25, 0.3)


class Viewing(nn.Module):
    """A convolution, and `view`, which refuses images in channels-last layout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * SIDE * SIDE, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.tanh(self.norm(self.conv(x)))).view(x.shape[0], -1))


def pooling(channels: int) -> nn.Module:
    """Return a network that runs in any layout."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d((3, 1)), nn.Flatten(), nn.Linear(24, 3)
    )


def linear(channels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * SIDE * SIDE, 3))


def normalizing(channels: int) -> nn.Module:
    return assay.models.Normalized(pooling(channels), MEAN[:channels], STD[:channels])


@functools.cache
def _fitted(make: Callable[[int], nn.Module], channels: int) -> nn.Module:
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        net = make(channels)
        # it learns the patterns, and so is wrong about the pictures that carry another class's
        own = LABELS.clone()
        own[list(MISTAKEN)] = (own[list(MISTAKEN)] + 1) % 3
        adam = torch.optim.Adam(net.parameters(), 0.02)
        net.eval()
        for _ in range(40):
            adam.zero_grad()
            F.cross_entropy(net(images(channels)), own).backward()
            adam.step()
    for one in net.parameters():
        one.grad = None
    return net


def fitted(make: Callable[[int], nn.Module], channels: int) -> nn.Module:
    """Return a network of one's own that knows the pictures, in eval mode."""
    return copy.deepcopy(_fitted(make, channels))


class Remembering(nn.Module):
    """A network whose answer depends on how often it was asked, until it begins again."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.asked = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        return self.inner(x) * (1.0 if self.asked == 1 else -1.0)


class RememberingProbabilities(Remembering):
    """The same, of probabilities, which another answer turns around."""

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        told = self.inner(x)
        return told if self.asked == 1 else (1 - told) / 2


def begin_again(net: nn.Module) -> None:
    assert isinstance(net, Remembering)
    net.asked = 0


class Caller:
    """An object with `__call__` that holds a network."""

    def __init__(self, inner: nn.Module) -> None:
        self.inner = inner

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def logits(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Guarded(nn.Module):
    """A cut that changes no valid image, in front."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.clamp(0, 1))


def scripted(net: nn.Module) -> Any:
    with warnings.catch_warnings(action="ignore"):  # torch calls it old
        return torch.jit.script(net)


def traced(net: nn.Module, channels: int) -> Any:
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.trace(net, torch.zeros(2, channels, SIDE, SIDE))


def frozen(net: nn.Module) -> Any:
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.freeze(torch.jit.script(net).eval())


def exported(net: nn.Module, channels: int) -> Any:
    some = torch.zeros(2, channels, SIDE, SIDE)
    return torch.export.export(net, (some,), dynamic_shapes=({0: torch.export.Dim("rows", min=1, max=4096)},)).module()


def in_train_mode(channels: int) -> nn.Module:
    return fitted(Viewing, channels).train()


def probabilities(channels: int) -> nn.Module:
    return nn.Sequential(fitted(pooling, channels), nn.Softmax(1))


def described(channels: int) -> assay.Classifier:
    return assay.Classifier(
        fitted(normalizing, channels), input_shape=(channels, SIDE, SIDE), mean=MEAN[:channels], std=STD[:channels]
    )


def remembering(channels: int) -> assay.Classifier:
    return assay.Classifier(Remembering(fitted(pooling, channels)), channels=channels, reset=begin_again)


def remembering_probabilities(channels: int) -> assay.Classifier:
    return assay.Classifier(RememberingProbabilities(probabilities(channels)), channels=channels, reset=begin_again)


def scores(channels: int) -> assay.Classifier:
    """Return a model that gives NumPy arrays scores, as a session of another runtime does."""
    net = fitted(pooling, channels)

    def predict(given: Any) -> Any:
        with torch.no_grad():
            return net(torch.from_numpy(given)).numpy()

    return assay.Classifier(assay.models.Predictions(predict), channels=channels, access=Access.SCORES)


def closing_over(channels: int) -> Any:
    net = fitted(pooling, channels)
    return lambda x: net(x)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A form of the model: what is handed over, and the network whose answers it must give, in the type it computes in.

    `outputs` is what it returns.
    """

    make: Callable[[int], Any]
    plain: Callable[[int], nn.Module]
    dtype: torch.dtype = torch.float32
    outputs: str = "logits"

    @property
    def describes_itself(self) -> bool:
        """Whether it is a `Classifier`, which takes no options."""
        return self.make in (described, remembering, remembering_probabilities)

    @property
    def callable(self) -> bool:
        """Whether it is no module."""
        return not isinstance(self.make(1), (str, nn.Module, assay.Classifier))


def _own(make: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    return functools.partial(fitted, make)


def _in(dtype: torch.dtype) -> Callable[[int], nn.Module]:
    return lambda c: fitted(pooling, c).to(dtype)


KINDS: dict[str, Kind] = {
    "viewing": Kind(_own(Viewing), _own(Viewing)),
    "pooling": Kind(_own(pooling), _own(pooling)),
    "linear": Kind(_own(linear), _own(linear)),
    "normalizing": Kind(_own(normalizing), _own(normalizing)),
    "clamped": Kind(lambda c: Guarded(fitted(pooling, c)), _own(pooling)),
    "hardtanh": Kind(lambda c: nn.Sequential(nn.Hardtanh(0, 1), fitted(Viewing, c)), _own(Viewing)),
    "float64": Kind(_in(torch.float64), _in(torch.float64), torch.float64),
    "float16": Kind(_in(torch.float16), _in(torch.float16), torch.float16),
    "bfloat16": Kind(_in(torch.bfloat16), _in(torch.bfloat16), torch.bfloat16),
    "closing_over": Kind(closing_over, _own(pooling)),
    "partial": Kind(lambda c: functools.partial(torch.func.functional_call, fitted(linear, c), {}), _own(linear)),
    "bound_method": Kind(lambda c: Caller(fitted(Viewing, c)).logits, _own(Viewing)),
    "caller": Kind(lambda c: Caller(fitted(Viewing, c).train()), _own(Viewing)),
    "scripted": Kind(lambda c: scripted(fitted(Viewing, c)), _own(Viewing)),
    "traced": Kind(lambda c: traced(fitted(Viewing, c), c), _own(Viewing)),
    "frozen": Kind(lambda c: frozen(fitted(Viewing, c)), _own(Viewing)),
    "exported": Kind(lambda c: exported(fitted(Viewing, c), c), _own(Viewing)),
    "in_train_mode": Kind(in_train_mode, _own(Viewing)),
    "probabilities": Kind(probabilities, probabilities, outputs="probabilities"),
    "exported_probabilities": Kind(lambda c: exported(probabilities(c), c), probabilities, outputs="probabilities"),
    "frozen_probabilities": Kind(lambda c: frozen(probabilities(c)), probabilities, outputs="probabilities"),
    "described": Kind(described, _own(normalizing)),
    "remembering": Kind(remembering, _own(pooling)),
    "remembering_probabilities": Kind(remembering_probabilities, probabilities, outputs="probabilities"),
}


def _named(form: str, make: Callable[[int], nn.Module]) -> Kind:
    # `{c}` is the number of channels, `{m}` and `{s}` the normalisation
    def name(channels: int) -> str:
        mean, std = (",".join(map(str, one[:channels])) for one in (MEAN, STD))
        return form.format(c=channels, m=mean, s=std)

    return Kind(name, _own(make))


NAMED_KINDS: dict[str, Kind] = {
    "safetensors": _named("file:{c}.safetensors?arch=own.py:untrained_{c}&channels={c}", Viewing),
    "state_dict": _named("file:{c}.pt?arch=own.py:untrained_{c}&channels={c}", Viewing),
    "prefixed": _named("file:{c}_prefixed.pt?arch=own.py:untrained_{c}&channels={c}", Viewing),
    "with_mean_and_std": _named("file:{c}_inner.pt?arch=own.py:inner_{c}&channels={c}&mean={m}&std={s}", normalizing),
}


def handed_over(kind: Kind, channels: int) -> Any:
    """Return the model as `assay.evaluate` takes it, knowing how many channels its pictures have."""
    made = kind.make(channels)
    if isinstance(made, (str, assay.Classifier)):
        return made if kind.outputs == "logits" else assay.load_model(made, outputs=kind.outputs)
    return assay.load_model(made, outputs=kind.outputs, channels=channels)


def plain_logits(kind: Kind, channels: int, x: Tensor) -> Tensor:
    """Return what the network says of images in plain torch, at least in float32: logits, or logarithms."""
    told = kind.plain(channels).eval()(x.to(kind.dtype)).to(torch.promote_types(kind.dtype, torch.float32))
    return told if kind.outputs == "logits" else told.clamp_min(torch.finfo(torch.float32).tiny).log()


def plain_fgsm(kind: Kind, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return in plain torch: the predictions, those after FGSM, and its images, for all the pictures."""
    x = images(channels).requires_grad_()
    logits = plain_logits(kind, channels, x)
    (grad,) = torch.autograd.grad(F.cross_entropy(logits, LABELS, reduction="sum"), x)
    numerator, denominator = map(int, EPS.split("/"))
    moved = (x + numerator / denominator * grad.sign()).clamp(0, 1).detach()
    return logits.argmax(1), plain_logits(kind, channels, moved).argmax(1), moved


def write(root: Path) -> None:
    """Write the weights into the folder `root`, as `NAMED_KINDS` reads them."""
    for c in (1, 3):
        state = fitted(Viewing, c).state_dict()
        save_file(state, root / f"{c}.safetensors")
        torch.save(state, root / f"{c}.pt")
        torch.save(
            {"state_dict": {f"model.net.{name}": one for name, one in state.items()}, "epoch": 3},
            root / f"{c}_prefixed.pt",
        )
        torch.save(fitted(normalizing, c).module.state_dict(), root / f"{c}_inner.pt")
