"""Folders of Hugging Face models, small and untrained, or of weights that come with a package."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

NAMES = ("ant", "bee", "cat", "dog", "eel")
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: at for at, name in enumerate(NAMES)}}
SIDE = 32
_SQUARE = {"height": SIDE, "width": SIDE}
_LARGER = {"height": 37, "width": 37}
_ATTENTION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_PATCHES = {**_ATTENTION, "image_size": SIDE, "patch_size": 8}
_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of model and processor of transformers: the classes' names, and what they are made with."""

    model: str
    config: dict[str, Any]
    processor: str
    pictures: dict[str, Any]


FAMILIES = {
    "vit": Family("ViT", _PATCHES, "ViT", {"size": _SQUARE}),
    "deit": Family("DeiT", _PATCHES, "DeiT", {"size": _LARGER, "crop_size": _SQUARE}),
    "swin": Family(
        "Swin",
        {"image_size": SIDE, "patch_size": 4, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
        "ViT",
        {"size": _SQUARE},
    ),
    "convnext": Family("ConvNext", _STAGES, "ConvNext", {"size": {"shortest_edge": SIDE}, "crop_pct": 0.9}),
    "convnext-384": Family("ConvNext", _STAGES, "ConvNext", {"size": {"shortest_edge": 384}}),
    "resnet": Family(
        "ResNet",
        {**_STAGES, "embedding_size": 8, "layer_type": "basic"},
        "ConvNext",
        {"size": {"shortest_edge": SIDE}, "resample": 2, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]},
    ),
    "mobilenet-v2": Family(
        "MobileNetV2",
        {"image_size": SIDE, "depth_multiplier": 0.35},
        "MobileNetV2",
        {"size": {"shortest_edge": 37}, "crop_size": _SQUARE},
    ),
    "mobilevit": Family(
        "MobileViT",
        {
            "image_size": 64,
            "hidden_sizes": [16, 16, 16],
            "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16],
            "num_attention_heads": 2,
        },
        "MobileViT",
        {"size": {"shortest_edge": 71}, "crop_size": {"height": 64, "width": 64}},
    ),
    "levit": Family(
        "Levit",
        {"image_size": 64, "hidden_sizes": [16, 16, 16], "depths": [1, 1, 1], "key_dim": [4, 4, 4]},
        "Levit",
        {"size": {"shortest_edge": 65}, "crop_size": {"height": 64, "width": 64}},
    ),
    "poolformer": Family(
        "PoolFormer",
        {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]},
        "PoolFormer",
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    ),
    "efficientnet": Family(
        "EfficientNet",
        {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320},
        "EfficientNet",
        {"size": {"height": 64, "width": 64}},
    ),
    "beit": Family("Beit", _PATCHES, "Beit", {"size": _LARGER, "crop_size": _SQUARE, "do_center_crop": True}),
    "dinov2": Family(
        "Dinov2",
        {**_ATTENTION, "image_size": 56, "patch_size": 14},
        "Bit",
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}, "resample": 1},
    ),
    "square, filter nearest": Family("ViT", _PATCHES, "ViT", {"size": _SQUARE, "resample": 0}),
    "square, filter hamming": Family("ViT", _PATCHES, "ViT", {"size": _SQUARE, "resample": 5}),
    "as it is": Family(
        "ResNet",
        {**_STAGES, "embedding_size": 8, "layer_type": "basic"},
        "ViT",
        {"do_resize": False, "do_normalize": False},
    ),
}


def make(kind: str, folder: Path, **config: Any) -> nn.Module:
    """Write a model of five classes with random weights, and its processor; returns the model, in eval mode."""
    import transformers

    family = FAMILIES[kind]
    settings = getattr(transformers, f"{family.model}Config")(**{**family.config, **LABELS, **config})
    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, f"{family.model}ForImageClassification")(settings).eval()
    _spread(model)
    model.save_pretrained(folder)  # type: ignore[operator]  # a method of transformers' models
    getattr(transformers, f"{family.processor}ImageProcessor")(**family.pictures).save_pretrained(folder)
    return model


def _spread(model: nn.Module) -> None:
    # untrained networks of this library answer nearly the same to every image
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one in model.parameters():
            if one.ndim > 1:
                one.copy_(torch.randn(one.shape, generator=draw) * one[0].numel() ** -0.5 * 1.5)


def lite0(folder: Path) -> nn.Module:
    """Write EfficientNet-Lite0's weights of ImageNet, which come with a package, as a folder of timm's wrapper."""
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    from assay.models import load_model
    from assay.models.efficientnet_lite import MEAN, STD

    about = {"input_size": [3, 224, 224], "mean": list(MEAN), "std": list(STD), "interpolation": "bicubic"}
    about |= {"crop_pct": 1.0, "crop_mode": "center"}
    config = TimmWrapperConfig.from_dict(
        {"architecture": "tf_efficientnet_lite0", "num_classes": 1000, "pretrained_cfg": about, "model_args": {}}
    )
    model: nn.Module = TimmWrapperForImageClassification(config).eval()
    own, source = model.state_dict(), load_model("efficientnet-lite0").module.module.state_dict()  # type: ignore[union-attr, operator]  # Normalized's
    # both list their layers in the order of the paper's table
    pairs = zip(own.items(), source.values(), strict=True)
    assert all(value.shape == given.shape for (_, value), given in zip(own.items(), source.values(), strict=True))
    model.load_state_dict({name: given for (name, _), given in pairs})
    model.save_pretrained(folder)  # type: ignore[operator]  # a method of transformers' models
    return model


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a file of JSON holds."""
    import json

    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
