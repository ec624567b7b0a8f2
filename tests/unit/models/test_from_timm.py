from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from assay.core.errors import BadInput
from assay.models import load_model
from assay.models.classifier import Preprocess
from assay.models.loaders.timm import preprocess_of
from assay.models.seeded import seeded
from assay.models.weights_file import Unavailable


def test_each_network_has_the_preprocessing_of_its_own_weights() -> None:
    resnet = load_model("timm:resnet18.a1_in1k@random")
    assert resnet.preprocess == Preprocess((235,), (224, 224), "bicubic")
    vit = load_model("timm:vit_tiny_patch16_224@random")
    assert (vit.mean, vit.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert vit.preprocess == Preprocess((248,), (224, 224), "bicubic")
    assert vit.classes is not None and vit.synsets is not None and vit.synsets[0] == "n01440764"


def test_normalisation_is_inside() -> None:
    vit = load_model("timm:vit_tiny_patch16_224@random")
    with seeded(0):
        plain = timm.create_model("vit_tiny_patch16_224").eval()
    x = torch.rand(1, 3, 224, 224)
    torch.testing.assert_close(vit.module(x), plain((x - 0.5) / 0.5))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"crop_mode": "center", "crop_pct": 0.875}, Preprocess((256,), (224, 224), "bicubic")),
        ({"crop_mode": "squash", "crop_pct": 1.0}, Preprocess((224, 224), (224, 224), "bicubic")),
    ],
)
def test_crop_modes(config: dict[str, Any], expected: Preprocess) -> None:
    assert preprocess_of({"input_size": (3, 224, 224), "interpolation": "bicubic", **config}, "timm:x") == expected


def test_an_unknown_crop_mode_is_refused() -> None:
    config = {"input_size": (3, 224, 224), "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "border"}
    with pytest.raises(BadInput, match="mode 'border'"):
        preprocess_of(config, "timm:x")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("timm:resnet5O", "Unknown model 'timm:resnet5O'. Did you mean 'timm:resnet50'"),
        ("timm:resnet50@a1_in1k", "timm:resnet50.a1_in1k"),
    ],
)
def test_unknown_names(spec: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_model(spec)


def test_without_a_connection_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_connection(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", no_connection)
    with pytest.raises(Unavailable, match=r"no route to host.*Hugging Face cache"):
        load_model("timm:resnet18")


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(BadInput, match=r"pip install 'assay\[timm\]'"):
        load_model("timm:resnet18")
