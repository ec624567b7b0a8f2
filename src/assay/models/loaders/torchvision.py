"""torchvision's classification networks with the weights, resize, crop and normalisation they were published with."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.core.errors import BadInput, did_you_mean
from assay.models.classifier import Classifier, Preprocess
from assay.models.imagenet import imagenet_synsets
from assay.models.normalized import Normalized
from assay.models.seeded import seeded
from assay.models.spec import Request, unknown
from assay.models.weights_file import Unavailable, read_torch

SCHEME = "torchvision:"


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of torchvision's classification networks."""
    from torchvision import models

    return tuple(models.list_models(module=models))


def load(request: Request) -> Classifier:
    """Load `NAME` (default weights), `NAME@WEIGHTS`, or `NAME@random` (untrained, seed 0: for benchmarks)."""
    from torchvision import models

    name, _, chosen = request.name.partition("@")
    if name not in names():
        raise unknown(request.spec, SCHEME, name, names())
    available = models.get_model_weights(name)
    if chosen == "random":
        described = _described(available.DEFAULT)
        module = untrained(name)
        described = dataclasses.replace(described, published_accuracy=None)
    else:
        weights = _weights(request.spec, chosen, available)
        described = _described(weights)
        module = _trained(name, weights)
    assert described.mean is not None and described.std is not None
    return dataclasses.replace(described, module=Normalized(module, described.mean, described.std), spec=request.spec)


def untrained(name: str, num_classes: int = 1000, seed: int = 0) -> nn.Module:
    """Return the network with random weights, drawn under `seed`: the same on every call."""
    from torchvision import models

    options: dict[str, Any] = {"num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    with seeded(seed):
        module: nn.Module = models.get_model(name, weights=None, **options)
    return module


def _weights(spec: str, chosen: str, available: Any) -> Any:
    # weights without categories are feature extractors: their last layer was never trained
    usable = {weights.name: weights for weights in available if weights.meta.get("categories")}
    if chosen in ("", "DEFAULT"):
        return available.DEFAULT
    if chosen not in usable:
        near = did_you_mean(chosen, usable)
        raise BadInput(f"Unknown weights {chosen!r} in {spec!r}.{near} There are: {', '.join(usable)}, random.")
    return usable[chosen]


def accuracy_of(weights: Any) -> float:
    """Return the published top-1 accuracy of torchvision's weights as a fraction."""
    return round(float(weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]) / 100, 5)


def _described(weights: Any) -> Classifier:
    transform, meta = weights.transforms(), weights.meta
    (crop,) = transform.crop_size
    preprocess = Preprocess(
        tuple(transform.resize_size), (crop, crop), transform.interpolation.value, bool(transform.antialias)
    )
    return Classifier(
        module=nn.Identity(),
        input_shape=(3, crop, crop),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        preprocess=preprocess,
        classes=tuple(meta["categories"]),
        synsets=imagenet_synsets(),
        published_accuracy=accuracy_of(weights),
    )


def _trained(name: str, weights: Any) -> nn.Module:
    """Fetch the weights where the cache lacks them, check them, and build the network with them."""
    from torchvision import models

    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    if not path.exists():
        _download(weights, path)
    check_hash(path)
    # torchvision's builder would unpickle anything; a file that passes here holds tensors alone
    read_torch(path, allow_pickle=False)
    module: nn.Module = models.get_model(name, weights=weights)
    return module


def _download(weights: Any, path: Path) -> None:
    sys.stderr.write(f"Fetching {weights.url} ({weights.meta['_file_size']:.0f} MB)\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(weights.url, str(path))
    except OSError as error:
        raise Unavailable(
            f"The weights {weights} ({weights.meta['_file_size']:.0f} MB) could not be downloaded: {error}. "
            f"Fetch {weights.url} on a machine with a connection and put the file at {path}."
        ) from error


def check_hash(path: Path) -> None:
    """Raise `BadInput` unless a checkpoint file has the sha256 whose first digits its name ends in."""
    wanted = re.search(r"-([0-9a-f]{8,})\.", path.name)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted and not found.startswith(wanted[1]):
        raise BadInput(
            f"{path} is damaged: its sha256 begins with {found[:8]}, expected {wanted[1]}. Delete it to fetch it again."
        )
