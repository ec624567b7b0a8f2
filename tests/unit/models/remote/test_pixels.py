"""Images as endpoints take them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import assay
from assay.models.remote.pixels import Numbers, Picture, exact_levels, from_bfloat16, levels, little

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
def test_integers_are_grey_levels_and_nothing_between_them_is_cut(datatype: str) -> None:
    given = Numbers(datatype).of(GRID)
    assert np.array_equal(given, np.rint(ROWS * 255))
    off = GRID.copy()
    off[1, 2, 3, 4] = 0.5001
    with pytest.raises(assay.ModelError, match=r"0\.5001.*--grid 255"):
        Numbers(datatype).of(off)


def test_values_out_of_range_are_no_grey_levels() -> None:
    for value in (-1 / 255, 256 / 255):
        with pytest.raises(assay.ModelError, match="grey levels 0 to 255"):
            exact_levels(np.full((1, 1, 2, 2), value, np.float32))


def test_all_levels_survive_float32() -> None:
    every = (np.arange(256, dtype=np.float32) / np.float32(255)).reshape(1, 1, 16, 16)
    assert np.array_equal(exact_levels(every).reshape(-1), np.arange(256))
    assert np.array_equal(
        exact_levels(torch.from_numpy(every).double().mul(255).div(255).float().numpy()), levels(every)
    )


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
