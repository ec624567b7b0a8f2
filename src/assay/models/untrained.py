"""Networks without weights, by name: what training starts from and what a file of weights fills."""

from __future__ import annotations

from torch import nn

from assay.core.errors import BadInput, did_you_mean
from assay.models import from_timm, from_torchvision
from assay.models.architectures import ARCHITECTURES
from assay.models.classifier import Classifier
from assay.models.from_python import is_python, make


def untrained(arch: str, classes: int | None = None, seed: int = 0) -> nn.Module:
    """Return the network that `arch` names; `classes` is for the zoos' networks (torchvision: 1000 unless given).

    The zoos' weights are drawn under `seed`; others as the caller's generator stands.
    `arch` is one of `ARCHITECTURES`, `torchvision:NAME`, `timm:NAME`, `my.py:factory` or `package.module:factory`.
    Raises `BadInput` for any other.
    """
    scheme, _, name = arch.partition(":")
    if arch in ARCHITECTURES:
        return ARCHITECTURES[arch]()
    if scheme == "torchvision" and name in from_torchvision.names():
        return from_torchvision.untrained(name, classes or 1000, seed)
    if scheme == "timm":
        return from_timm.untrained(name, classes, seed)
    if is_python(arch) and scheme != "torchvision":
        made = make(arch)
        return made.module if isinstance(made, Classifier) else made
    known = [*ARCHITECTURES, *(f"torchvision:{name}" for name in from_torchvision.names())]
    raise BadInput(
        f"Unknown architecture {arch!r}.{did_you_mean(arch, known)} There are: {', '.join(ARCHITECTURES)}, "
        "torchvision:NAME, timm:NAME, my.py:factory and package.module:factory."
    )
