from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from assay.core.errors import BadInput
from assay.models.imagenet import imagenet_synsets
from assay.paper import images
from assay.paper.choices import Choices
from assay.paper.images import SingleImages, checked_imagenet, of_the_paper
from tests.support.fake_imagenet import RICH

SYNSETS = imagenet_synsets()


def chosen(imagenet: Path, out: Path, *given: str) -> SingleImages:
    return SingleImages(Choices(out, imagenet, images=given), (7, 16, 20, 27), "torchvision:resnet101@random")


def test_image_i_is_image_i_mod_5_of_class_i_div_5(imagenet: Path, tmp_path: Path) -> None:
    (data,) = chosen(imagenet, tmp_path).data()
    assert data["source"] == f"imagenet:{imagenet}"
    places = ((1, 2), (3, 1), (4, 0), (5, 2))
    assert data["ids"] == [f"{SYNSETS[label]}/{SYNSETS[label]}_{at}.png" for label, at in places]


def test_a_class_with_too_few_pictures_is_named(imagenet: Path) -> None:
    source = checked_imagenet(imagenet)
    assert of_the_paper(source, 5 * RICH).startswith(SYNSETS[RICH])
    with pytest.raises(BadInput, match=r"image 31 is picture 2 of class 6, and 1 of that class are there.*--image"):
        of_the_paper(source, 5 * RICH + 1)


def test_a_missing_class_is_named_by_its_synset(imagenet: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(imagenet, tmp_path / "val")
    shutil.rmtree(copy / SYNSETS[859])
    with pytest.raises(BadInput, match=r"999 of ImageNet's 1,000 classes.*Missing: n04442312 \(toaster\)\. "):
        checked_imagenet(copy)
    # a folder without pictures is as good as none
    next((copy / SYNSETS[134]).iterdir()).unlink()
    with pytest.raises(BadInput, match=r"Missing: n02012849 \(crane bird\), n04442312"):
        checked_imagenet(copy)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, r"There is no directory .*val \(from '--imagenet "),
        (lambda root: (root / "val").mkdir(), "has no pictures"),
        (lambda root: (root / "val" / "val" / "x").mkdir(parents=True), "Name one of them: --imagenet .*/val/val"),
    ],
)
def test_what_is_no_imagenet_is_refused_in_the_words_of_the_flag(tmp_path: Path, make: object, says: str) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(BadInput, match=says):
        checked_imagenet(tmp_path / "val")


def test_pictures_by_id_by_path_and_from_elsewhere(imagenet: Path, tmp_path: Path) -> None:
    name = f"{SYNSETS[2]}/{SYNSETS[2]}_3.png"
    other = tmp_path / "my fish=1.png"
    Image.new("RGB", (9, 9), "red").save(other)
    given = (name, str(imagenet / name), f"{other}=tench", f"{other}=n01443537", f"{other}=859")
    inside, outside = chosen(imagenet, tmp_path / "out", *given).data()
    assert inside == {"source": f"imagenet:{imagenet}", "ids": [name]}
    assert outside["source"] == f"folder:{tmp_path / 'out' / 'images'}"
    assert [one.partition("/")[0] for one in outside["ids"]] == ["0", "1", "859"]
    for one in outside["ids"]:
        assert (tmp_path / "out" / "images" / one).read_bytes() == other.read_bytes()


def test_a_picture_without_a_class_gets_the_networks_own(
    imagenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Always(nn.Module):
        def forward(self, x: object) -> object:
            import torch

            return torch.eye(1000)[[7]]

    from assay import models
    from assay.models import Classifier

    monkeypatch.setattr(models, "load_model", lambda spec: Classifier(Always(), input_shape=(3, 9, 9)))
    other = tmp_path / "a.png"
    Image.new("RGB", (9, 9), "red").save(other)
    ((data),) = chosen(imagenet, tmp_path / "out", str(other)).data()
    assert data["ids"][0].startswith("7/")


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("n01440764/n01440764_9.png", "neither a picture nor a sample. Did you mean 'n0144"),
        ("PICTURE=toster", "no class 'toster'. Did you mean 'toaster'"),
        ("PICTURE=1000", "no class '1000'"),
    ],
)
def test_slips_get_a_suggestion(imagenet: Path, tmp_path: Path, image: str, says: str) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (9, 9)).save(picture)
    with pytest.raises(BadInput, match=says):
        chosen(imagenet, tmp_path, image.replace("PICTURE", str(picture))).data()


def test_more_images_than_a_run_keeps_are_refused(imagenet: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="17 images; expected at most 16"):
        chosen(imagenet, tmp_path, *["a"] * (images.MOST_IMAGES + 1)).data()
