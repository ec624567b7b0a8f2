from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay.core.errors import BadInput
from assay.patches.patch import Patch
from assay.patches.sheet import DPI, write_sheet

MARGIN = 1.5
PDFTOPPM = shutil.which("pdftoppm")
rendered = pytest.mark.skipif(PDFTOPPM is None, reason="no pdftoppm on this machine: apt-get install poppler-utils")


def dots(centimetres: float) -> int:
    return round(centimetres / 2.54 * DPI)


def patch(rows: int = 6, columns: int = 8, name: str = "toaster") -> Patch:
    pixels = torch.rand(3, rows, columns, generator=torch.Generator().manual_seed(0))
    # no white: where there is ink is then where the patch is
    return Patch(pixels * 0.8, torch.ones(rows, columns), 1 if name else None, name)


def seen(path: Path, dpi: int = DPI) -> np.ndarray:
    """Return the page as a printer sees it, `[H, W, 3]`."""
    assert PDFTOPPM
    target = path.with_suffix("")
    subprocess.run([PDFTOPPM, "-r", str(dpi), "-png", "-singlefile", str(path), str(target)], check=True)
    return np.asarray(Image.open(target.with_suffix(".png")).convert("RGB")).astype(int)


def ink(page: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right (exclusive) of what is printed above the foot."""
    at = np.argwhere((page[: dots(29.7 - MARGIN - 2.5)] < 230).any(2))
    (top, left), (bottom, right) = at.min(0), at.max(0)
    return int(top), int(left), int(bottom) + 1, int(right) + 1


def test_one_page_of_a4_that_says_what_it_is(tmp_path: Path) -> None:
    write_sheet(patch(), tmp_path / "sheet.pdf", 10)
    content = (tmp_path / "sheet.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") == 1
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", content)
    assert box is not None
    width, height = (float(value) / 72 * 2.54 for value in box.groups())
    assert (width, height) == pytest.approx((21.0, 29.7), abs=0.01)
    assert "Adversarial patch toaster 6 x 8".encode("utf-16-be") in content


@rendered
@pytest.mark.parametrize(("width", "copies"), [(8.0, 1), (8.0, 2), (18.0, 1)])
def test_the_patch_has_the_width_that_was_asked_for(tmp_path: Path, width: float, copies: int) -> None:
    write_sheet(patch(), tmp_path / "sheet.pdf", width, copies)
    top, left, bottom, right = ink(seen(tmp_path / "sheet.pdf"))
    assert (top, left) == (dots(MARGIN), dots(MARGIN))
    gap = 0.5 * (copies - 1)
    assert right - left == pytest.approx(dots(copies * width + gap), abs=1)
    assert bottom - top == pytest.approx(dots(width * 6 / 8), abs=1)


@rendered
def test_pixels_are_squares_of_one_colour_with_sharp_edges(tmp_path: Path) -> None:
    one = patch()
    write_sheet(one, tmp_path / "sheet.pdf", 8)
    page, side = seen(tmp_path / "sheet.pdf"), dots(8) / 8
    wanted = (one.pixels * 255).round().permute(1, 2, 0).numpy()
    for row in range(6):
        for column in range(8):
            top, left = dots(MARGIN) + row * side, dots(MARGIN) + column * side
            cell = page[round(top) + 2 : round(top + side) - 2, round(left) + 2 : round(left + side) - 2]
            assert np.abs(cell - wanted[row, column]).max() <= 4


@rendered
def test_the_ruler_is_ten_centimetres_long(tmp_path: Path) -> None:
    write_sheet(patch(), tmp_path / "sheet.pdf", 8)
    foot = seen(tmp_path / "sheet.pdf")[dots(29.7 - MARGIN - 2.5) :]
    dark = (foot < 100).all(2)
    longest = dark[dark.sum(1).argmax()]
    at = np.flatnonzero(longest)
    assert at[0] == pytest.approx(dots(MARGIN), abs=1)
    assert at[-1] - at[0] == pytest.approx(dots(10), abs=2)


@rendered
def test_what_the_mask_leaves_out_is_paper(tmp_path: Path) -> None:
    mask = torch.ones(4, 4)
    mask[:, 2:] = 0
    write_sheet(Patch(torch.zeros(3, 4, 4), mask), tmp_path / "sheet.pdf", 8)
    page = seen(tmp_path / "sheet.pdf", 72)
    middle = round(5 / 2.54 * 72)
    assert page[middle, round(3 / 2.54 * 72)].max() < 10
    assert page[middle, round(8 / 2.54 * 72)].min() > 245


def test_grey_patches_and_those_without_a_target_can_be_printed(tmp_path: Path) -> None:
    write_sheet(Patch(torch.rand(1, 5, 5), torch.ones(5, 5)), tmp_path / "sheet.pdf", 5, 3)
    assert "untargeted".encode("utf-16-be") in (tmp_path / "sheet.pdf").read_bytes()


@pytest.mark.parametrize("width", [18.1, 0.0, -3.0, float("nan"), float("inf")])
def test_a_width_that_does_not_fit_is_refused(tmp_path: Path, width: float) -> None:
    with pytest.raises(BadInput, match=r"does not fit on A4 within 18 x 24.2 cm. Give another width"):
        write_sheet(patch(), tmp_path / "sheet.pdf", width)
    assert not list(tmp_path.iterdir())


def test_a_patch_that_is_too_high_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"10 cm wide and 80 cm high does not fit"):
        write_sheet(patch(8, 1), tmp_path / "sheet.pdf", 10)


@pytest.mark.parametrize(("copies", "most"), [(0, 6), (-1, 6), (7, 6)])
def test_as_many_copies_as_fit_and_no_more(tmp_path: Path, copies: int, most: int) -> None:
    # two across, three down: 2 x 8 + 0.5 of 18 cm, 3 x 6 + 2 x 0.5 of 24.2 cm
    write_sheet(patch(), tmp_path / "sheet.pdf", 8, most)
    (tmp_path / "sheet.pdf").unlink()
    with pytest.raises(BadInput, match=rf"{copies} copies of 8 cm asked for; one to {most} fit"):
        write_sheet(patch(), tmp_path / "sheet.pdf", 8, copies)
    assert not list(tmp_path.iterdir())
