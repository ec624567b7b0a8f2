from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from assay.core.errors import BadInput
from assay.data import load_data
from assay.models.classifier import Classifier


def tree(root: Path, *folders: str) -> Path:
    for name in folders:
        (root / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(root / name / "0.png")
    return root


def notes(root: Path) -> str:
    return " ".join(load_data(f"folder:{root}").notes)


@pytest.mark.parametrize(
    ("splits", "named"),
    [
        (("train", "val"), "val"),
        (("Training", "Testing"), "Testing"),
        (("train", "valid", "test"), "test"),
        (("seg_train", "seg_test"), "seg_test"),
        (("training_set", "test_set"), "test_set"),
        (("train",), "train"),
    ],
)
def test_splits_are_refused_with_the_one_to_name(tmp_path: Path, splits: tuple[str, ...], named: str) -> None:
    tree(tmp_path, *(f"{split}/{name}" for split in splits for name in ("cat", "dog")))
    with pytest.raises(BadInput, match=rf"holds splits \(.*\), not classes. Name one of them: folder:.*/{named}$"):
        load_data(f"folder:{tmp_path}")
    assert load_data(f"folder:{tmp_path}/{named}").labels == (0, 1)


def test_splits_beside_another_folder(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog", "samples")
    with pytest.raises(BadInput, match=r"holds splits \(test, train\)"):
        load_data(f"folder:{tmp_path}")


def test_a_class_that_is_called_train_is_one(tmp_path: Path) -> None:
    tree(tmp_path, "bus", "train", "tram/old")
    assert load_data(f"folder:{tmp_path}").classes == ("bus", "train", "tram")
    known = Classifier(nn.Flatten(), classes=("bus", "train"))
    (tmp_path / "only").mkdir()
    tree(tmp_path / "only", "train/a", "train/b")
    assert load_data(f"folder:{tmp_path}/only", model=known).labels == (1, 1)


def test_splits_without_classes_are_noted(tmp_path: Path) -> None:
    assert "called like splits (test, train)" in notes(tree(tmp_path, "train", "test"))


def test_roots_one_level_too_high_are_noted(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", "pictures/cat", "pictures/dog")
    assert f"name it: folder:{one}/pictures" in notes(one)
    two = tree(tmp_path / "two", "camera1/cat", "camera1/dog", "camera2/cat", "camera2/dog")
    assert f"folder:{two}/camera1" in notes(two)
    assert "folders of the same names (cat, dog)" in notes(two)


def test_splits_inside_the_classes_are_noted(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat/train", "cat/test", "dog/train", "dog/test")
    assert "Every class folder holds splits (test, train)" in notes(root)


@pytest.mark.parametrize(
    "folders", [("cat", "dog"), ("cat/a", "dog/b"), ("cat", "cat/a", "dog", "dog/a"), ("cat/a", "dog/a")]
)
def test_folders_inside_classes_are_usual(tmp_path: Path, folders: tuple[str, ...]) -> None:
    assert notes(tree(tmp_path, *folders)) == ""
