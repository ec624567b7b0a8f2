from __future__ import annotations

import hashlib
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from assay.core.errors import BadInput
from assay.data.pictures import picture_tensor
from assay.models import load_model
from assay.models.loaders import torchvision as from_torchvision
from assay.models.weights_file import Unavailable


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub, and no connection."""

    def no_connection(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_connection)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def pretend(hub: Path, monkeypatch: pytest.MonkeyPatch, content: object, name: str = "squeezenet1_1") -> Any:
    """Put `content` into the cache as the weights of a network, under the hash that its name claims."""
    weights = models.get_model_weights(name).DEFAULT
    file = hub / weights.url.rsplit("/", 1)[1]
    torch.save(content, file)
    monkeypatch.setattr(from_torchvision, "check_hash", lambda path: None)
    return weights


def test_cached_weights_are_used(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    network = models.squeezenet1_1().eval()
    weights = pretend(hub, monkeypatch, network.state_dict())
    classifier = load_model("torchvision:squeezenet1_1")
    x = torch.rand(1, 3, 64, 64)
    transform = weights.transforms()
    normalised = (x - torch.tensor(transform.mean).view(3, 1, 1)) / torch.tensor(transform.std).view(3, 1, 1)
    torch.testing.assert_close(classifier.module(x), network(normalised))
    assert classifier.published_accuracy == 0.58178
    assert classifier.classes is not None
    assert classifier.synsets is not None
    assert (classifier.classes[134], classifier.synsets[134]) == ("crane bird", "n02012849")
    assert not classifier.module.training


def test_without_a_connection_the_error_says_which_file_to_put_where(hub: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        load_model("torchvision:resnet50@IMAGENET1K_V2")
    text = str(caught.value)
    assert "no route to host" in text
    assert "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" in text
    assert str(hub / "resnet50-11ad3fa6.pth") in text
    assert "98 MB" in text


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_that_brings_code_is_not_run(hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(hub, monkeypatch, {"a": Malicious(tmp_path / "ran")})
    with pytest.raises(BadInput, match="could run code"):
        load_model("torchvision:squeezenet1_1")
    assert not (tmp_path / "ran").exists()


def test_a_damaged_file_in_the_cache_is_named(hub: Path) -> None:
    file = hub / "squeezenet1_1-b8a52dc0.pth"
    file.write_bytes(b"half a file")
    with pytest.raises(BadInput, match=r"squeezenet1_1-b8a52dc0.pth is damaged.*Delete it"):
        load_model("torchvision:squeezenet1_1")


def test_the_hash_in_the_name_is_checked(tmp_path: Path) -> None:
    right = tmp_path / f"a-{hashlib.sha256(b'content').hexdigest()[:8]}.pth"
    right.write_bytes(b"content")
    from_torchvision.check_hash(right)
    right.write_bytes(b"contents")
    with pytest.raises(BadInput, match="damaged"):
        from_torchvision.check_hash(right)


def test_unknown_weights_name_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"Unknown weights 'IMAGENET1K_V3'.*Did you mean 'IMAGENET1K_V2'.*random"):
        load_model("torchvision:resnet50@IMAGENET1K_V3")


def test_weights_without_a_trained_last_layer_are_not_offered() -> None:
    with pytest.raises(BadInput, match="There are: IMAGENET1K_V1, random"):
        load_model("torchvision:vgg16@IMAGENET1K_FEATURES")


@pytest.mark.parametrize("name", ["squeezenet1_1", "googlenet"])
def test_random_weights_are_the_same_every_time_and_promise_nothing(name: str) -> None:
    before = torch.random.get_rng_state()
    first, second = (load_model(f"torchvision:{name}@random") for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.digest == second.digest
    assert first.published_accuracy is None
    assert first.input_shape == (3, 224, 224)
    assert first.module(torch.rand(1, 3, 224, 224)).shape == (1, 1000)


@pytest.mark.parametrize("weights", ["resnet50@IMAGENET1K_V2", "alexnet@IMAGENET1K_V1", "swin_v2_t@IMAGENET1K_V1"])
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (64, 64)])
def test_pictures_are_exactly_what_the_weights_own_transform_gives(weights: str, size: tuple[int, int]) -> None:
    name, _, which = weights.partition("@")
    transform = models.get_model_weights(name)[which].transforms()
    described = from_torchvision._described(models.get_model_weights(name)[which])
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    ours = picture_tensor(image, described.preprocess)
    transform.mean, transform.std = [0.0] * 3, [1.0] * 3
    assert torch.equal(ours, transform(image))
    assert tuple(ours.shape) == described.input_shape


def test_the_description_of_every_published_network_is_complete() -> None:
    for name in from_torchvision.names():
        for weights in models.get_model_weights(name):
            if weights.meta.get("categories"):
                described = from_torchvision._described(weights)
                assert described.classes is not None and len(described.classes) == 1000
                assert 0.5 < (described.published_accuracy or 0) < 0.9
                assert described.preprocess is not None and described.input_shape is not None
                assert described.preprocess.crop == described.input_shape[1:]
