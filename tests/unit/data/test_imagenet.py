from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torch import nn

from assay.core.errors import BadInput
from assay.data import load_data
from assay.models.classifier import Classifier
from assay.models.imagenet import imagenet_classes, imagenet_synsets

BIRDS = Classifier(nn.Flatten(), classes=("crane", "hen"), synsets=("n02012849", "n01514859"))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


@pytest.mark.parametrize("names", [("n01440764", "n02012849"), ("0", "134"), ("tench", "crane_bird")])
def test_class_folders_named_by_synset_number_or_name(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        picture(tmp_path / name / "a.JPEG")
    data = load_data(f"imagenet:{tmp_path}")
    assert sorted(data.labels) == [0, 134]
    assert data.classes == imagenet_classes()
    assert f"{names[1]}/a.JPEG" in data.ids


def test_a_model_with_fewer_classes_has_its_own_labels(tmp_path: Path) -> None:
    picture(tmp_path / "n01514859" / "a.JPEG")
    assert load_data(f"imagenet:{tmp_path}", model=BIRDS).labels == (1,)


def test_a_model_of_other_classes_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "n01514859" / "a.JPEG")
    with pytest.raises(BadInput, match="2 classes without synsets"):
        load_data(f"imagenet:{tmp_path}", model=Classifier(nn.Flatten(), classes=("a", "b")))
    picture(tmp_path / "n01440764" / "a.JPEG")
    with pytest.raises(BadInput, match="Folder 'n01440764' is no synset of the model"):
        load_data(f"imagenet:{tmp_path}", model=BIRDS)


def flat(root: Path) -> None:
    for number in (1, 2, 3):
        picture(root / f"ILSVRC2012_val_{number:08d}.JPEG")


@pytest.mark.parametrize("beside", [False, True])
def test_a_flat_folder_with_kaggles_file(tmp_path: Path, beside: bool) -> None:
    flat(tmp_path / "val")
    rows = ["ImageId,PredictionString"]
    rows += [f"ILSVRC2012_val_{n:08d},{s} 1 2 3 4 {s} 5 6 7 8 " for n, s in ((3, "n01440764"), (1, "n02012849"))]
    rows.append("ILSVRC2012_val_00000002,n15075141 1 2 3 4 ")
    (tmp_path / ("" if beside else "val") / "LOC_val_solution.csv").write_text("\n".join(rows) + "\n")
    data = load_data(f"imagenet:{tmp_path}/val")
    assert data.ids == tuple(f"ILSVRC2012_val_{n:08d}.JPEG" for n in (1, 2, 3))
    assert data.labels == (134, 999, 0)


def kit(folder: Path, truth: str) -> None:
    """Write a development kit whose numbers run backwards through the synsets, with one inner node."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(1000 - label, synset, "word", 0) for label, synset in enumerate(imagenet_synsets())]
    rows.append((1001, "n00001740", "entity", 5))
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=kinds)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


def test_a_flat_folder_with_the_development_kit(tmp_path: Path) -> None:
    flat(tmp_path / "val")
    kit(tmp_path / "ILSVRC2012_devkit_t12" / "data", "1000\n866\n1\n")
    assert load_data(f"imagenet:{tmp_path}/val").labels == (0, 134, 999)


@pytest.mark.parametrize(
    ("truth", "says"),
    [
        ("1000\n866\n1001\n", "class number '1001'; expected 1 to 1000"),
        ("1000\n866\n", "ILSVRC2012_val_00000003.JPEG is not in the ground truth"),
    ],
)
def test_a_ground_truth_that_does_not_fit(tmp_path: Path, truth: str, says: str) -> None:
    flat(tmp_path / "val")
    kit(tmp_path / "val", truth)
    with pytest.raises(BadInput, match=says):
        load_data(f"imagenet:{tmp_path}/val")


def test_the_kits_numbers_need_its_table(tmp_path: Path) -> None:
    flat(tmp_path)
    kit(tmp_path, "1\n2\n3\n")
    (tmp_path / "meta.mat").write_bytes(b"something else")
    with pytest.raises(BadInput, match=r"meta.mat is not the meta.mat"):
        load_data(f"imagenet:{tmp_path}")
    (tmp_path / "meta.mat").unlink()
    with pytest.raises(BadInput, match=r"which meta.mat explains. Put meta.mat"):
        load_data(f"imagenet:{tmp_path}")


def test_a_flat_folder_without_ground_truth_says_which_files_are_missing(tmp_path: Path) -> None:
    flat(tmp_path)
    with pytest.raises(BadInput, match=r"LOC_val_solution.csv.*ILSVRC2012_validation_ground_truth.txt.*meta.mat"):
        load_data(f"imagenet:{tmp_path}")


def test_a_folder_of_splits_suggests_one(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "n01440764" / "a.JPEG")
    with pytest.raises(BadInput, match=f"imagenet:{tmp_path}/val"):
        load_data(f"imagenet:{tmp_path}")
