from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.data import Sample, load_data
from assay.data import imagenet_samples as room
from assay.data.imagenet_samples import SHA256
from assay.data.mnist import ChecksumMismatch
from assay.models.classifier import Classifier, Preprocess
from assay.models.weights_file import Unavailable

MODEL = Classifier(nn.Flatten(), input_shape=(3, 32, 32), preprocess=Preprocess((36,), (32, 32)))


def test_twenty_pictures_with_their_labels() -> None:
    data = load_data("samples", model=MODEL)
    assert len(data) == 20
    assert (data.ids[0], data.labels[0]) == ("samples/00_243", 243)
    assert data.classes is not None and data.classes[243] == "bull mastiff"
    for sample in data.load(range(20)):
        assert isinstance(sample, Sample)
        assert sample.image.shape == (3, 32, 32)


def test_without_a_model_the_first_picture_gives_the_shape() -> None:
    assert load_data("samples", limit=1).input_shape == (3, 512, 512)


def test_a_picture_of_another_size_is_an_error_with_the_fix() -> None:
    with pytest.raises(BadInput, match=r"samples/10_541.*expected \[3, 512, 512\].*Pass the model"):
        load_data("samples").load([10])


def test_labels_beyond_the_models_classes_are_refused() -> None:
    ten = Classifier(nn.Flatten(), classes=tuple("0123456789"))
    with pytest.raises(BadInput, match="label 243; expected 0 to 9"):
        load_data("samples", model=ten)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    return tmp_path


def test_without_a_connection_the_error_says_what_to_do(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_connection(*_: Any) -> Path:
        raise Unavailable("pip could not download foolbox==3.3.4")

    monkeypatch.setattr(room, "fetch_wheel", no_connection)
    with pytest.raises(Unavailable, match=r"could not download foolbox.*assay data get samples"):
        load_data("samples")


def test_another_picture_in_the_wheel_is_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = empty_cache / "foolbox.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for key in SHA256:
            archive.writestr(f"foolbox/data/imagenet_{key}.jpg", b"something else")
    monkeypatch.setattr(room, "fetch_wheel", lambda *_: wheel)
    with pytest.raises(ChecksumMismatch, match="not the published picture"):
        load_data("samples")
    assert not (empty_cache / "samples").exists()


def test_a_damaged_picture_in_the_cache_is_named(empty_cache: Path) -> None:
    (empty_cache / "samples").mkdir()
    (empty_cache / "samples" / "00_243.jpg").write_bytes(b"half")
    with pytest.raises(ChecksumMismatch, match=r"00_243.jpg is not the published picture. Delete it"):
        load_data("samples")


def test_the_fingerprint_does_not_depend_on_the_place_of_the_cache(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = load_data("samples", model=MODEL, limit=2)
    monkeypatch.delenv("ASSAY_CACHE")
    here = load_data("samples", model=MODEL, limit=2)
    assert elsewhere.fingerprint == here.fingerprint
    assert torch.equal(elsewhere.read(1), here.read(1))
