"""Networks without weights, by name: what training starts from and what a file of weights fills."""

from __future__ import annotations

import dataclasses

from assay.core.errors import BadInput, did_you_mean
from assay.models.architectures import ARCHITECTURES
from assay.models.classifier import Classifier
from assay.models.loaders import timm as from_timm
from assay.models.loaders import torchvision as from_torchvision
from assay.models.loaders.python import code_of, described, is_python, make
from assay.models.spec import Options

WITH_CLASSES = ("torchvision", "timm")


def is_code(arch: str) -> bool:
    """Say whether `arch` names the user's code: `my.py:factory` or `package.module:factory`."""
    return arch.partition(":")[0] not in WITH_CLASSES and is_python(arch)


def takes_classes(arch: str) -> bool:
    """Say whether the network that `arch` names has as many outputs as one asks for."""
    return arch.partition(":")[0] in WITH_CLASSES


def untrained(arch: str, classes: int | None = None, seed: int = 0) -> Classifier:
    """Return the network that `arch` names, with the normalisation it has inside and the digest of its code.

    `classes` is the number of outputs, for the zoos' networks alone (torchvision: 1000 unless given). Their weights
    are drawn under `seed`; others as the caller's generator stands. `arch` is one of `ARCHITECTURES`,
    `torchvision:NAME`, `timm:NAME`, `my.py:factory` or `package.module:factory`. Raises `BadInput` for any other, and
    for `classes` where the architecture does not take it.
    """
    scheme, _, name = arch.partition(":")
    if scheme == "torchvision" and name in from_torchvision.names():
        return Classifier(from_torchvision.untrained(name, classes or 1000, seed), arch)
    if scheme == "timm":
        return Classifier(from_timm.untrained(name, classes, seed), arch)
    if arch not in ARCHITECTURES and not is_code(arch):
        known = [*ARCHITECTURES, *(f"torchvision:{name}" for name in from_torchvision.names())]
        raise BadInput(
            f"Unknown architecture {arch!r}.{did_you_mean(arch, known)} There are: {', '.join(ARCHITECTURES)}, "
            "torchvision:NAME, timm:NAME, my.py:factory and package.module:factory."
        )
    if classes is not None:
        raise BadInput(
            f"classes is {classes}, and {arch!r} has the number of outputs that it is built with; expected classes "
            "with torchvision: and timm: architectures alone. Leave it out, or build the network for that number."
        )
    if arch in ARCHITECTURES:
        return Classifier(ARCHITECTURES[arch](), arch)
    made = described(make(arch), arch, Options())
    return dataclasses.replace(made, code=code_of(arch))
