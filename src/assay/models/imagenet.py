"""The 1,000 classes of ImageNet's ILSVRC challenge (Russakovsky et al. 2015): WordNet ids and names, in label order."""

from __future__ import annotations

import functools
from importlib.resources import files


@functools.cache
def imagenet_synsets() -> tuple[str, ...]:
    """Return the 1,000 WordNet ids in label order, which is their alphabetical order.

    The file beside this module is the output of
    `python -c "from timm.data import ImageNetInfo; print(*ImageNetInfo('imagenet-1k').label_names(), sep='\\n')"`.
    """
    return tuple((files("assay.models") / "imagenet_synsets.txt").read_text("ascii").split())


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Return torchvision's 1,000 class names in label order."""
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.DEFAULT.meta["categories"])
