from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from assay.core.errors import BadInput
from assay.data import Sample, Unreadable, load_data
from assay.models.classifier import Classifier, Preprocess

MODEL = Classifier(
    nn.Flatten(), input_shape=(3, 8, 8), preprocess=Preprocess((8,), (8, 8)), classes=("dog", "cat", "owl")
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (20, 10 + i), (i, 100, 200)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_ids_labels_and_images(photos: Path) -> None:
    data = load_data(f"folder:{photos}", model=MODEL)
    assert data.ids == ("cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png")
    assert data.labels == (1, 1, 1, 0, 0, 0)
    assert data.classes == ("dog", "cat", "owl")
    assert data.source == f"folder:{photos}"
    for sample in data.load([5, 0]):
        assert isinstance(sample, Sample)
        assert sample.image.shape == (3, 8, 8)


def test_a_grey_model_reads_grey_pictures(photos: Path) -> None:
    grey = Classifier(nn.Flatten(), input_shape=(1, 8, 8), preprocess=Preprocess((8,), (8, 8)))
    (sample,) = load_data(f"folder:{photos}", model=grey).load([0])
    assert isinstance(sample, Sample)
    assert sample.image.shape == (1, 8, 8)


def test_a_damaged_picture_is_a_record_and_the_others_go_on(photos: Path) -> None:
    path = photos / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:40])
    loaded = load_data(f"folder:{photos}", model=MODEL).load(range(3))
    assert [type(sample) for sample in loaded] == [Sample, Unreadable, Sample]
    assert isinstance(loaded[1], Unreadable)
    assert (loaded[1].id, loaded[1].label) == ("cat/1.png", 1)
    assert "1.png" in loaded[1].error


def test_only_what_is_asked_for_is_read(photos: Path) -> None:
    data = load_data(f"folder:{photos}", model=MODEL)
    (photos / "cat" / "0.png").unlink()
    assert isinstance(data.load([3])[0], Sample)


def test_data_travel_to_other_processes(photos: Path) -> None:
    data = load_data(f"folder:{photos}", model=MODEL, ids=["dog/1.png"])
    again = pickle.loads(pickle.dumps(data))
    assert again == data


def test_the_fingerprint_follows_content_ids_and_labels(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = load_data(f"folder:{photos}").fingerprint
    assert load_data(f"folder:{photos}").fingerprint == before
    moved = tmp_path_factory.mktemp("a") / "elsewhere"
    photos.rename(moved)
    assert load_data(f"folder:{moved}").fingerprint == before
    assert load_data(f"folder:{moved}", model=MODEL).fingerprint != before  # other labels
    Image.new("RGB", (20, 10), (9, 9, 9)).save(moved / "cat" / "0.png")
    changed = load_data(f"folder:{moved}").fingerprint
    assert changed != before
    (moved / "cat" / "0.png").rename(moved / "cat" / "00.png")
    assert load_data(f"folder:{moved}").fingerprint not in (before, changed)


def test_the_fingerprint_sees_the_end_of_a_long_file(photos: Path) -> None:
    path = photos / "cat" / "0.png"
    path.write_bytes(path.read_bytes() + b"\x00" * 20_000)
    before = load_data(f"folder:{photos}").fingerprint
    content = bytearray(path.read_bytes())
    content[-1] = 1
    path.write_bytes(content)
    assert load_data(f"folder:{photos}").fingerprint != before


def test_empty_class_folders_are_noted(photos: Path) -> None:
    (photos / "owl").mkdir()
    assert any("left out: owl" in note for note in load_data(f"folder:{photos}", model=MODEL).notes)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, "no pictures in its 0 folders"),
        (lambda root: (root / "cat").mkdir(), "no pictures in its 1 folders"),
        (lambda root: Image.new("RGB", (2, 2)).save(root / "a.png"), "1 pictures but no class folders"),
    ],
)
def test_a_folder_without_classes_or_pictures_is_an_error(tmp_path: Path, make: object, says: str) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(BadInput, match=says):
        load_data(f"folder:{tmp_path}")


def test_a_missing_folder_suggests_its_neighbour(photos: Path) -> None:
    with pytest.raises(BadInput, match=r"There is no directory .*/dgo.*Did you mean 'dog'"):
        load_data(f"folder:{photos}/dgo")
    with pytest.raises(BadInput, match="names no directory"):
        load_data("folder:")
