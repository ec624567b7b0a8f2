from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets

from assay.core.errors import BadInput
from assay.data import Sample, load_data
from assay.models.weights_file import Unavailable


class Small:
    """CIFAR-10 with three images, as torchvision gives it when the files are there."""

    url, tgz_md5 = "http://cifar/cifar-10-python.tar.gz", "c58f"
    classes = ("airplane", "automobile", "bird")

    def __init__(self, root: Path, train: bool, download: bool = False) -> None:
        print("Files already downloaded and verified")
        self.data = np.full((3, 32, 32, 3), 51, dtype=np.uint8)
        self.data[0, 0, 0] = (255, 0, 0)
        self.targets = [2, 0, 1]


def test_images_labels_and_classes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Small)
    data = load_data("cifar10")
    assert capsys.readouterr().out == ""
    assert data.ids[2] == "cifar10/test/00002"
    assert data.labels == (2, 0, 1)
    assert data.input_shape == (3, 32, 32)
    (sample,) = data.load([0])
    assert isinstance(sample, Sample)
    assert sample.image[:, 0, 0].tolist() == [1, 0, 0]
    assert load_data("cifar10/train").fingerprint != data.fingerprint


def test_without_a_connection_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(root: Path, train: bool, download: bool = False) -> Any:
        raise OSError("no route to host") if download else RuntimeError("Dataset not found or corrupted")

    absent.url = "http://cifar/cifar-10-python.tar.gz"  # type: ignore[attr-defined]
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", absent)
    with pytest.raises(Unavailable, match=rf"no route to host.*http://cifar/.*{tmp_path}/cifar10"):
        load_data("cifar10/test")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(BadInput, match="Did you mean 'train'"):
        load_data("cifar10/trian")
