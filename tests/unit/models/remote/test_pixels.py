"""Images as endpoints take them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import assay
from assay.models.remote.pixels import Numbers, Picture, from_bfloat16, levels, little

ROWS = np.random.default_rng(0).random((4, 3, 6, 5), dtype=np.float32)
GRID = np.rint(ROWS * 255).astype(np.float32) / np.float32(255)


def test_floats_arrive_as_they_are_in_either_order() -> None:
    assert np.array_equal(Numbers().of(ROWS), ROWS)
    turned = Numbers("FP64", "nhwc").of(ROWS)
    assert turned.shape == (4, 6, 5, 3)
    assert turned.dtype == np.float64
    assert np.array_equal(turned.transpose(0, 3, 1, 2), ROWS)
    assert little(Numbers().of(ROWS)) == ROWS.tobytes()


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", torch.float16), ("BF16", torch.bfloat16)])
def test_halves_are_rounded_as_torch_rounds_them(datatype: str, dtype: torch.dtype) -> None:
    given = Numbers(datatype).of(ROWS)
    want = torch.from_numpy(ROWS).to(dtype)
    assert given.tobytes() == want.view(torch.uint16).numpy().tobytes()
    assert np.array_equal(Numbers(datatype).in_json(ROWS), want.float().numpy())
    assert "rounded" in Numbers(datatype).loses


def test_every_half_of_bfloat16_is_read_back() -> None:
    bits = np.arange(0, 0x7F80, dtype=np.uint16)
    assert np.array_equal(from_bfloat16(bits), torch.from_numpy(bits).view(torch.bfloat16).float().numpy())


@pytest.mark.parametrize("datatype", ["UINT8", "UINT16", "INT32", "INT64"])
def test_integers_are_the_nearest_grey_levels(datatype: str) -> None:
    numbers = Numbers(datatype)
    assert np.array_equal(numbers.of(GRID), np.rint(ROWS * 255))
    assert np.array_equal(numbers.of(ROWS), np.rint(ROWS * 255))
    # a server that casts would make 100 of it
    assert numbers.of(np.full((1, 1, 1, 1), 100.6 / 255, np.float32)).item() == 101
    assert numbers.of(np.array([-1, 2], np.float32).reshape(1, 1, 1, 2)).ravel().tolist() == [0, 255]
    assert "rounded to them" in numbers.loses
    assert numbers.whole


def test_all_levels_survive_float32() -> None:
    every = np.arange(256).reshape(1, 1, 16, 16)
    assert np.array_equal(levels(every.astype(np.float32) / np.float32(255)), every)
    assert np.array_equal(levels((every / 255).astype(np.float32)), every)
    assert np.array_equal(levels(torch.from_numpy(every).float().mul(1 / 255).numpy()), every)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_exact_on_the_grid_and_rounds_to_the_nearest_level_off_it(channels: int) -> None:
    for rows in (GRID, ROWS):
        row = rows[0, :channels]
        with Image.open(io.BytesIO(Picture().of(row))) as picture:
            assert picture.format == "PNG"
            pixels = np.asarray(picture).reshape(6, 5, channels)
        assert np.array_equal(pixels.transpose(2, 0, 1), np.rint(row * 255))
        assert np.array_equal(pixels, Picture().levels(row))


def test_jpeg_has_its_quality() -> None:
    row = np.random.default_rng(1).random((3, 32, 32), dtype=np.float32)
    sizes = [len(Picture(quality).of(row)) for quality in (30, 95)]
    assert sizes[0] < sizes[1] / 2
    with Image.open(io.BytesIO(Picture(30).of(row))) as picture:
        assert picture.format == "JPEG"


def test_other_pictures_and_types_are_refused() -> None:
    with pytest.raises(assay.BadInput, match="2 channels"):
        Picture().of(ROWS[0, :2])
    with pytest.raises(assay.BadInput, match="takes BYTES"):
        Numbers("BYTES")
    with pytest.raises(assay.BadInput, match="nchw"):
        Numbers("FP32", "chwn")
