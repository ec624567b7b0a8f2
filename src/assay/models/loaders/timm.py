"""timm's networks (extra `timm`), each with the resize, crop and normalisation of its own weights."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from assay.core.errors import BadInput
from assay.models.classifier import Classifier, Preprocess
from assay.models.imagenet import imagenet_classes, imagenet_synsets
from assay.models.normalized import Normalized
from assay.models.seeded import seeded
from assay.models.spec import Request, unknown
from assay.models.weights_file import Unavailable

SCHEME = "timm:"


def load(request: Request) -> Classifier:
    """Load `NAME` with its pretrained weights, or `NAME@random` (untrained, seed 0)."""
    timm = _timm()
    name, _, chosen = request.name.partition("@")
    if not timm.is_model(name):
        raise unknown(request.spec, SCHEME, name, timm.list_models())
    if chosen not in ("", "random"):
        raise BadInput(
            f"Unknown weights {chosen!r} in {request.spec!r}. timm names weights after a dot: "
            f"timm:{name}.{chosen}; or write timm:{name}@random."
        )
    module = untrained(name) if chosen == "random" else _trained(timm, name, request.spec)
    config = timm.data.resolve_model_data_config(module)
    on_imagenet = timm.data.infer_imagenet_subset(module) == "imagenet-1k"
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Classifier(
        module=Normalized(module, mean, std),
        spec=request.spec,
        input_shape=tuple(config["input_size"]),
        mean=mean,
        std=std,
        preprocess=preprocess_of(config, request.spec),
        classes=imagenet_classes() if on_imagenet else None,
        synsets=imagenet_synsets() if on_imagenet else None,
    )


def untrained(name: str, num_classes: int | None = None, seed: int = 0) -> nn.Module:
    """Return timm's network with random weights, drawn under `seed`: the same on every call."""
    timm = _timm()
    if not timm.is_model(name):
        raise unknown(f"{SCHEME}{name}", SCHEME, name, timm.list_models())
    with seeded(seed):
        module: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes or 1000)
    return module


def names(pretrained: bool = True) -> list[str]:
    """Return timm's model names, with their weights' tags when `pretrained`; none where timm is not installed."""
    try:
        timm = _timm()
    except BadInput:
        return []
    return list(timm.list_models(pretrained=pretrained))


def _timm() -> Any:
    try:
        import timm
        import timm.data
    except ModuleNotFoundError as error:
        raise BadInput("timm is not installed. Install it with: pip install 'assay[timm]'") from error
    return timm


def _trained(timm: Any, name: str, spec: str) -> nn.Module:
    try:
        module: nn.Module = timm.create_model(name, pretrained=True)
    except OSError as error:
        raise Unavailable(
            f"The weights of {spec!r} could not be downloaded: {error}. Load them once on a machine with a "
            "connection and copy that machine's Hugging Face cache (~/.cache/huggingface) here."
        ) from error
    except RuntimeError as error:
        raise BadInput(f"{spec!r} could not be built: {error}. `assay models` lists the names with weights.") from error
    return module


def preprocess_of(config: dict[str, Any], spec: str) -> Preprocess:
    """Return timm's evaluation transform: the crop is `crop_pct` of the resized picture."""
    _, height, width = config["input_size"]
    resized = (math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"]))
    if config["crop_mode"] == "squash":
        resize: tuple[int, ...] = resized
    elif config["crop_mode"] == "center" and resized[0] == resized[1]:
        resize = resized[:1]
    else:
        raise BadInput(
            f"{spec!r} wants pictures cropped in mode {config['crop_mode']!r} to {height}x{width}, which Assay does "
            "not know. Load it in your own file instead: my.py:factory, with the preprocessing as options."
        )
    return Preprocess(resize, (height, width), config["interpolation"])
