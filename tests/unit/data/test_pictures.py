from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from assay.data.dataset import PictureError
from assay.data.folder_scan import pictures_under
from assay.data.pictures import Pictures, decode, picture_tensor
from assay.models.classifier import Preprocess

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def read(path: Path, channels: int = 3) -> torch.Tensor:
    return picture_tensor(decode(path, channels), None)


def test_values_are_exact(tmp_path: Path) -> None:
    RGB.save(tmp_path / "a.png")
    expected = torch.from_numpy(np.array(RGB)).permute(2, 0, 1) / 255
    assert torch.equal(read(tmp_path / "a.png"), expected)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.tiff")
    assert read(tmp_path / "a.tiff")[:, 0, 0].tolist() == [0.0, 1.0, 1.0]
    RGB.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert read(tmp_path / "a.jpg").shape == (3, 40, 60)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{kind}")
    for channels in (1, 3):
        image = read(tmp_path / f"a.{kind}", channels)
        assert (image[0, 0] * 255).round().tolist() == [0, 1, 128, 255]
        assert image.shape == (channels, 1, 4)


def test_floating_point_pictures_lie_between_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "a.tiff")
    assert (read(tmp_path / "a.tiff", 1)[0, 0] * 255).round().tolist() == [0, 128, 255]
    Image.fromarray(np.array([[0.0, 90.0]], dtype=np.float32)).save(tmp_path / "b.tiff")
    with pytest.raises(PictureError, match=r"b.tiff: values from 0 to 90 in mode F; expected 0 to 1"):
        read(tmp_path / "b.tiff")


def test_animations_give_their_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for kind in ("gif", "png", "webp"):
        frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], lossless=True)
        assert read(tmp_path / f"a.{kind}")[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_palettes_and_transparency(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "a.png", transparency=bytes([255, 0]))
    Image.new("RGBA", (2, 1), (0, 255, 0, 10)).save(tmp_path / "b.png")
    Image.new("LA", (2, 1), (51, 10)).save(tmp_path / "c.png")
    Image.new("1", (2, 1), 1).save(tmp_path / "d.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path / "a.png")[:, 0].tolist() == [[1, 0], [0, 0], [0, 1]]
        assert read(tmp_path / "b.png")[:, 0, 0].tolist() == [0, 1, 0]
        assert (read(tmp_path / "c.png") * 255).round().unique().tolist() == [51]
        assert read(tmp_path / "d.png", 1).unique().tolist() == [1]


def test_an_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    RGB.save(tmp_path / "a.jpg", exif=exif)
    assert read(tmp_path / "a.jpg").shape == (3, 40, 60)


@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "webp", "bmp", "tiff"])
def test_truncated_files_are_picture_errors(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    RGB.save(path)
    whole = path.read_bytes()
    for keep in (len(whole) // 2, 20, 0):
        path.write_bytes(whole[:keep])
        with pytest.raises(PictureError, match=f"a.{kind}: "):
            decode(path, 3)


@pytest.mark.parametrize("content", [b"<html>", b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, b"\xff\xd8\xff\xe0junk"])
def test_foreign_files_are_picture_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(PictureError):
        decode(tmp_path / "a.jpg", 3)


def test_a_missing_file_is_a_picture_error(tmp_path: Path) -> None:
    with pytest.raises(PictureError):
        decode(tmp_path / "a.jpg", 3)


def test_a_picture_that_would_fill_the_memory_is_a_picture_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    RGB.save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="decompression bomb"):
        decode(tmp_path / "a.png", 3)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "vit_b_16"])
def test_files_are_exactly_what_the_weights_own_transform_gives(tmp_path: Path, name: str) -> None:
    RGB.resize((300, 260)).save(tmp_path / "a.jpg")
    transform = models.get_model_weights(name).DEFAULT.transforms()
    transform.mean, transform.std = [0.0] * 3, [1.0] * 3
    crop, resize = transform.crop_size[0], transform.resize_size[0]
    ours = Pictures((tmp_path / "a.jpg",), 3, Preprocess((resize,), (crop, crop), transform.interpolation.value))(0)
    assert torch.equal(ours, transform(Image.open(tmp_path / "a.jpg").convert("RGB")))


def test_a_picture_smaller_than_the_crop_is_enlarged_first() -> None:
    assert picture_tensor(RGB, Preprocess((64,), (64, 64))).min() > 0


def test_pictures_are_found_below_and_sorted(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/10.jpg", "a.png", "b/c/d.webp", "b/notes.txt", ".hidden.jpg", "b/.x/e.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert pictures_under(tmp_path) == ["a.png", "b/10.jpg", "b/2.JPG", "b/c/d.webp"]
