from __future__ import annotations

from assay.models import list_models
from assay.models.load import Listed


def test_the_list_has_every_kind_once() -> None:
    listed = list_models()
    specs = [model.spec for model in listed]
    assert len(set(specs)) == len(specs)
    assert {"zoo:mnist-cnn", "efficientnet-lite0", "torchvision:resnet101@IMAGENET1K_V1"} <= set(specs)
    assert any(spec.startswith("timm:") for spec in specs)
    assert not any("FEATURES" in spec for spec in specs)


def test_published_accuracies_are_fractions() -> None:
    by_spec = {model.spec: model for model in list_models(timm=False)}
    assert by_spec["torchvision:resnet50@IMAGENET1K_V2"] == Listed(
        "torchvision:resnet50@IMAGENET1K_V2", "ImageNet, 98 MB", 0.80858
    )
    assert all(0.5 < (model.published_accuracy or 0) < 1 for model in by_spec.values())
