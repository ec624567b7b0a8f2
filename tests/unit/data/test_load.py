from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from assay.core.errors import BadInput
from assay.data import Data, load_data
from assay.models import load_model
from assay.models.classifier import Classifier


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("mnst/test", "Unknown data 'mnst/test'. Did you mean 'mnist/test'"),
        ("foldr:photos", "Did you mean 'folder:'"),
        ("imagnet:photos", "Did you mean 'imagenet:'"),
        ("samples/3", "Did you mean 'samples'"),
        ("", "There are: mnist/test"),
    ],
)
def test_unknown_names_suggest_near_ones(source: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_data(source)


def test_images_of_another_shape_than_the_models_are_refused_at_once() -> None:
    with pytest.raises(BadInput, match=r"mnist/test has images of 1 x 28 x 28, but the model .* takes 3 x 224 x 224"):
        load_data("mnist/test", model=load_model("torchvision:squeezenet1_1@random"))


def test_labels_beyond_the_models_classes_are_refused_at_once() -> None:
    with pytest.raises(BadInput, match="mnist/test has label 7; expected 0 to 1, as the model has 2 classes"):
        load_data("mnist/test", model=Classifier(nn.Flatten(), classes=("0", "1")), limit=2)


def test_selections_and_their_notes() -> None:
    data = load_data("mnist/test", sample=100, seed=3)
    assert len(data) == len(data.ids) == len(data.labels) == 100
    assert {data.labels.count(label) for label in range(10)} <= {8, 9, 10, 11, 12}
    assert load_data("mnist/test", sample=100, seed=3).fingerprint == data.fingerprint
    assert load_data("mnist/test", sample=100, seed=4).fingerprint != data.fingerprint
    assert load_data("mnist/test", limit=2).notes != ()


def test_reading_keeps_memory_flat(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for i in range(40):
        Image.new("RGB", (200, 200), (i, i, i)).save(tmp_path / "a" / f"{i}.png")
    data = load_data(f"folder:{tmp_path}")
    peaks = []
    for count in (10, 40):
        tracemalloc.start()
        read_in_chunks(data, count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 50_000


def read_in_chunks(data: Data, count: int) -> None:
    for first in range(0, count, 5):
        data.load(range(first, first + 5))
