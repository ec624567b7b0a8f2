from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from assay.data.dataset import PictureError
from assay.data.pictures import Pictures, picture_tensor, to_eight_bits
from assay.data.written_labels import Reading
from assay.models.classifier import Preprocess

RNG = np.random.default_rng(0)


def read(path: Path, channels: int, preprocess: Preprocess | None = None, white: float | None = None) -> Tensor:
    return Pictures((str(path),), channels, preprocess, Reading(white))(0)


def multispectral(path: Path, values: np.ndarray) -> Path:
    """Write `[C, H, W]` as a plain TIFF of C samples for each pixel, which Pillow does not read."""
    bands, height, width = values.shape
    data = values.transpose(1, 2, 0).tobytes()
    bits = 8 * values.dtype.itemsize
    at = 8 + 2 + 11 * 12 + 4
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, at), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, at + 4 * bands + 2 * (bands - 1)), (277, 3, 1, bands), (278, 4, 1, height),
        (279, 4, 1, len(data)), (284, 3, 1, 1), (338, 3, bands - 1, at + 4 * bands),
    ]  # fmt: skip
    with path.open("wb") as file:
        file.write(struct.pack("<2sHIH", b"II", 42, 8, len(tags)))
        for tag, kind, count, value in tags:
            file.write(struct.pack("<HHII", tag, kind, count, value))
        file.write(struct.pack("<I", 0))
        file.write(struct.pack(f"<{bands}H", *[bits] * bands) + b"\0" * 2 * bands)
        file.write(struct.pack(f"<{bands - 1}H", *[0] * (bands - 1)))
        file.write(data)
    return path


def test_pages_of_a_tiff_are_the_bands_a_model_asks_for(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (5, 6, 7), dtype=np.uint8)
    pages = [Image.fromarray(page) for page in values]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert torch.equal(read(tmp_path / "a.tif", 5), torch.from_numpy(values / 255).float())
    assert read(tmp_path / "a.tif", 1).shape == (1, 6, 7)
    with pytest.raises(PictureError, match=r"a.tif: a picture of 5 bands; the model takes 6 channels.*channels=5"):
        read(tmp_path / "a.tif", 6)


def test_bands_are_resized_one_by_one(tmp_path: Path) -> None:
    values = RNG.integers(0, 60000, (4, 8, 12)).astype(np.uint16)
    pages = [Image.fromarray(page) for page in values]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    image = read(tmp_path / "a.tif", 4, Preprocess((4,), (4, 4), "bicubic"), white=60000)
    assert image.shape == (4, 4, 4)
    assert float(image.min()) >= 0 and float(image.max()) <= 1
    alone = read(tmp_path / "a.tif", 1, Preprocess((4,), (4, 4), "bicubic"), white=60000)
    assert torch.allclose(image[0], alone[0], atol=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_of_many_bands(tmp_path: Path, dtype: type) -> None:
    values = RNG.integers(0, 200, (6, 5, 4)).astype(dtype)
    path = multispectral(tmp_path / "a.tif", values)
    try:
        import tifffile  # noqa: F401
    except ModuleNotFoundError:
        bits = 8 * np.dtype(dtype).itemsize
        with pytest.raises(PictureError, match=rf"a TIFF of 6 bands of {bits} bits.*pip install 'assay\[tiff\]'"):
            read(path, 6)
        return
    assert torch.equal(read(path, 6, white=200), torch.from_numpy(values / 200).float())
    with pytest.raises(PictureError, match="a picture of 6 bands; the model takes 3 channels"):
        read(path, 3)


def test_grey_with_transparency_and_four_channels(tmp_path: Path) -> None:
    Image.new("LA", (2, 1), (51, 102)).save(tmp_path / "la.png")
    Image.new("RGB", (2, 1), (51, 0, 255)).save(tmp_path / "rgb.png")
    Image.new("RGBA", (2, 1), (51, 0, 255, 102)).save(tmp_path / "rgba.png")
    Image.new("CMYK", (2, 1), (51, 0, 255, 102)).save(tmp_path / "cmyk.tif")

    def levels(name: str, channels: int) -> list[float]:
        return (read(tmp_path / name, channels)[:, 0, 0] * 255).round().tolist()

    assert levels("la.png", 2) == [51, 102]
    assert levels("la.png", 4) == [51, 51, 51, 102]
    assert levels("rgb.png", 4) == [51, 0, 255, 255]
    assert levels("rgba.png", 4) == levels("cmyk.tif", 4) == [51, 0, 255, 102]
    assert levels("rgba.png", 3) == [51, 0, 255]


@pytest.mark.parametrize("channels", [2, 5])
def test_pictures_of_other_bands_than_the_model_takes(tmp_path: Path, channels: int) -> None:
    Image.new("RGB", (2, 1)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match=rf"a picture of 3 bands.*the model takes {channels} channels.*channels=3"):
        read(tmp_path / "a.png", channels)


def test_negative_values_say_so(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-5, 9]], dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(PictureError, match=r"from -5 to 9 in mode I; expected 0 to 65535. Shift them"):
        read(tmp_path / "a.tif", 1)


@pytest.mark.parametrize(("mode", "corner"), [("L", [114]), ("RGB", [114] * 3), ("RGBA", [114, 114, 114, 255])])
def test_padding_keeps_the_whole_picture(mode: str, corner: list[int]) -> None:
    image = Image.new(mode, (40, 10), tuple([200] * len(corner)) if len(corner) > 1 else 200)
    x = (picture_tensor(image, Preprocess((16, 16), pad=114)) * 255).round()
    assert x.shape == (len(corner), 16, 16)
    assert x[:, 0, 0].tolist() == corner
    assert x[:, 6:10].unique().tolist() == [200]  # 40 x 10 becomes 16 x 4, in the middle
    assert x[:1, :6].unique().tolist() == x[:1, 10:].unique().tolist() == [114]


def test_stretching_and_crops_of_any_shape() -> None:
    image = Image.fromarray(RNG.integers(0, 256, (10, 40, 3), dtype=np.uint8))
    assert picture_tensor(image, Preprocess((8, 20))).shape == (3, 8, 20)
    assert torch.equal(picture_tensor(image, Preprocess(None, (4, 6))), picture_tensor(image, None)[:, 3:7, 17:23])
    with pytest.raises(ValueError, match="smaller than the crop 12 x 12"):
        picture_tensor(image, Preprocess(None, (12, 12)))


def test_a_picture_smaller_than_the_crop_is_an_error_record(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match=r"a.png: 5 x 5 .* is smaller than the crop 8 x 8"):
        read(tmp_path / "a.png", 3, Preprocess(None, (8, 8)))


def test_images_of_pillow_keep_their_channels() -> None:
    assert to_eight_bits(Image.new("P", (2, 2)), 4).mode == "RGBA"
    assert to_eight_bits(Image.new("1", (2, 2)), 2).mode == "LA"
