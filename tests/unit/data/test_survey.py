from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from assay.core.errors import BadInput
from assay.data import Sample, Unreadable, load_data
from assay.models.classifier import Classifier, Preprocess

RNG = np.random.default_rng(0)


def folder(root: Path, *pictures: Image.Image, kind: str = "png", **save: object) -> Path:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i, picture in enumerate(pictures):
            picture.save(root / name / f"{i}.{kind}", **save)  # type: ignore[arg-type]
    return root


def first(name: str, model: Classifier | None = None) -> torch.Tensor:
    (sample,) = load_data(name, model=model).load([0])
    assert isinstance(sample, Sample)
    return sample.image


def sized(preprocess: Preprocess, classes: tuple[str, ...] | None = None) -> Classifier:
    return Classifier(nn.Flatten(), input_shape=(3, 8, 8), preprocess=preprocess, classes=classes)


def grey(brightest: int) -> Image.Image:
    values = RNG.integers(0, brightest + 1, (6, 5)).astype(np.uint16)
    values[0, 0] = brightest
    return Image.fromarray(values)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize(
    ("brightest", "white"), [(200, 255), (1000, 1023), (1023, 1023), (3500, 4095), (4095, 4095), (16000, 16383)]
)
def test_few_bits_in_sixteen_are_noted_with_the_white_to_say(
    tmp_path: Path, kind: str, brightest: int, white: int
) -> None:
    root = folder(tmp_path, grey(brightest // 2), grey(brightest), kind=kind)
    (note,) = load_data(f"folder:{root}").about_pictures
    assert f"is {brightest}, expected values up to 65535" in note
    assert f"folder:{root}?white={white} " in note
    told = load_data(f"folder:{root}?white={white}")
    assert told.notes == ()
    (sample,) = told.load([1])
    assert isinstance(sample, Sample)
    assert float(sample.image.max()) == pytest.approx(brightest / white, abs=0.002)
    assert told.fingerprint != load_data(f"folder:{root}").fingerprint


def test_sixteen_bits_that_are_used_are_not_noted(tmp_path: Path) -> None:
    assert load_data(f"folder:{folder(tmp_path, grey(65535), grey(40))}").notes == ()


def test_values_above_the_white_are_error_records(tmp_path: Path) -> None:
    root = folder(tmp_path, grey(4000))
    loaded = load_data(f"folder:{root}?white=1023").load([0])[0]
    assert isinstance(loaded, Unreadable)
    assert "to 4000 in mode I;16; expected 0 to 1023" in loaded.error


def test_white_of_eight_bit_and_floating_point_pictures(tmp_path: Path) -> None:
    masks = folder(tmp_path / "m", Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)))
    assert first(f"folder:{masks}?white=2")[0, 0].tolist() == pytest.approx([0, 128 / 255, 1])
    floats = folder(tmp_path / "f", Image.fromarray(np.array([[0.0, 50.0]], dtype=np.float32)), kind="tiff")
    assert first(f"folder:{floats}?white=50")[0, 0].tolist() == [0, 1]
    mixed = folder(tmp_path / "x", Image.fromarray(np.array([[0, 255]], dtype=np.uint8)))
    assert first(f"folder:{mixed}?white=4095")[0, 0].tolist() == [0, 1]  # eight bits know no 4095


def sixteen_bit_png(values: np.ndarray) -> bytes:
    """Return a PNG of 16 bits and one to four channels, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [3, 4])
def test_twelve_bits_in_colour_keep_all_their_bits(tmp_path: Path, channels: int) -> None:
    values = RNG.integers(0, 4096, (5, 4, channels)).astype(np.uint16)
    values[0, 0] = 4095
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(sixteen_bit_png(values))
    (note,) = load_data(f"folder:{tmp_path}").about_pictures
    assert "?white=4095 " in note
    image = first(f"folder:{tmp_path}?white=4095")
    expected = np.rint(values[:, :, :3] * (255 / 4095)).transpose(2, 0, 1)
    assert np.array_equal((image * 255).round().numpy(), expected)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_orientation_is_noted_and_can_be_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    root = folder(tmp_path, stored, exif=exif)
    (note,) = load_data(f"folder:{root}").about_pictures
    assert "2 of 2 pictures looked at have an EXIF orientation" in note
    assert f"folder:{root}?orientation=apply" in note
    as_stored = torch.from_numpy(np.array(stored)).permute(2, 0, 1) / 255
    assert torch.equal(first(f"folder:{root}?orientation=stored"), as_stored)
    quarter = {3: 2, 6: 3, 8: 1}[orientation]
    assert torch.equal(first(f"folder:{root}?orientation=apply"), torch.rot90(as_stored, quarter, (1, 2)))
    for choice in ("stored", "apply"):
        assert load_data(f"folder:{root}?orientation={choice}").notes == ()


def test_upright_pictures_and_turned_tiffs_are_not_noted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    picture = Image.new("RGB", (4, 4))
    assert load_data(f"folder:{folder(tmp_path / 'one', picture, exif=exif)}").notes == ()
    exif[0x0112] = 6
    # Pillow turns these by itself
    assert load_data(f"folder:{folder(tmp_path / 'two', picture, kind='tiff', exif=exif)}").notes == ()


def test_pictures_that_are_cropped_are_noted(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.new("RGB", (40, 10)), Image.new("RGB", (9, 9)))
    (note,) = load_data(f"folder:{root}", model=sized(Preprocess((8,), (8, 8)))).about_pictures
    assert "2 of 4 pictures looked at are not square" in note
    assert "one of 40 x 10 loses 75 %" in note
    assert "resize=8x8 (stretched) or size=8&pad=black" in note


@pytest.mark.parametrize(
    "model",
    [
        sized(Preprocess((8, 8))),
        sized(Preprocess((8, 8), pad=0)),
        sized(Preprocess((9,), (8, 8))),
        sized(Preprocess((8,), (8, 8)), classes=("x", "y")),  # the weights' own preprocessing
        None,
    ],
)
def test_pictures_whose_preprocessing_was_chosen_are_not_noted(tmp_path: Path, model: Classifier | None) -> None:
    assert load_data(f"folder:{folder(tmp_path, Image.new('RGB', (40, 10)))}", model=model).about_pictures == ()


def test_transparency_is_noted_where_it_shows(tmp_path: Path) -> None:
    clear, opaque = Image.new("RGBA", (4, 4), (9, 9, 9, 0)), Image.new("RGBA", (4, 4), (9, 9, 9, 255))
    root = folder(tmp_path / "one", clear)
    (note,) = load_data(f"folder:{root}").about_pictures
    assert "2 of 2 pictures looked at have transparent pixels" in note
    assert load_data(f"folder:{root}", model=Classifier(nn.Flatten(), channels=4)).about_pictures == ()
    assert load_data(f"folder:{folder(tmp_path / 'two', opaque)}").about_pictures == ()


def test_pages_are_noted(tmp_path: Path) -> None:
    pages = [Image.new("L", (4, 4), level) for level in (10, 20)]
    root = folder(tmp_path, pages[0], kind="tiff", save_all=True, append_images=pages[1:])
    (note,) = load_data(f"folder:{root}").about_pictures
    assert "TIFF files of several pages" in note


def test_damaged_files_are_passed_over(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.new("RGB", (4, 4)))
    (root / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    (root / "b" / "1.png").write_bytes(b"")
    assert load_data(f"folder:{root}").notes == ()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("white=0", "white is '0'"),
        ("white=bright", "white is 'bright'; expected the value"),
        ("orientation=aply", "Did you mean 'apply'"),
        ("ordr=number", "Did you mean 'order'"),
    ],
)
def test_options_that_are_none(tmp_path: Path, option: str, says: str) -> None:
    root = folder(tmp_path, Image.new("RGB", (4, 4)))
    with pytest.raises(BadInput, match=says):
        load_data(f"folder:{root}?{option}")
