from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from assay.core.errors import BadInput
from assay.patches import Patch
from assay.patches.pictures import from_pixels, mask_of, photograph, picture_of, png_bytes, read_picture, write_png


def a_patch() -> Patch:
    pixels = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    return Patch(pixels, torch.ones(4, 5), 2, "crane bird", {"command": "assay patch train"})


def test_a_file_is_all_of_the_patch(tmp_path: Path) -> None:
    patch = a_patch()
    patch.save(tmp_path / "p.safetensors")
    again = Patch.load(tmp_path / "p.safetensors")
    assert torch.equal(again.pixels, patch.pixels) and torch.equal(again.mask, patch.mask)
    assert (again.target, again.target_name, dict(again.facts)) == (2, "crane bird", {"command": "assay patch train"})
    assert again.digest == patch.digest and again.name == "crane bird 4 x 5" and again.values == 60
    none = Patch(patch.pixels, patch.mask)
    none.save(tmp_path / "n.safetensors")
    assert Patch.load(tmp_path / "n.safetensors").target is None
    assert none.with_pixels(1 - patch.pixels).digest != none.digest


def test_files_that_are_no_patches(tmp_path: Path) -> None:
    a_patch().save(tmp_path / "toaster.safetensors")
    with pytest.raises(BadInput, match=r"no patch .*toster.safetensors. Did you mean 'toaster.safetensors'"):
        Patch.load(tmp_path / "toster.safetensors")
    save_file({"pixels": torch.zeros(3, 2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="is no patch"):
        Patch.load(tmp_path / "other.safetensors")
    whole = (tmp_path / "toaster.safetensors").read_bytes()
    (tmp_path / "toaster.safetensors").write_bytes(whole[:-4] + b"\x00\x00\x00\x3f")
    with pytest.raises(BadInput, match="was changed after it was written"):
        Patch.load(tmp_path / "toaster.safetensors")


@pytest.mark.parametrize(
    ("pixels", "mask", "says"),
    [
        (torch.zeros(3, 2, 2), torch.zeros(2, 2), "covers no pixel"),
        (torch.zeros(3, 2, 2), torch.ones(2, 3), "expected"),
        (torch.full((3, 2, 2), 1.5), torch.ones(2, 2), "outside"),
        (torch.full((3, 2, 2), torch.nan), torch.ones(2, 2), "NaN"),
    ],
)
def test_patches_that_cannot_be(pixels: torch.Tensor, mask: torch.Tensor, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Patch(pixels, mask)


def test_shapes() -> None:
    assert torch.equal(mask_of("square", 3), torch.ones(3, 3))
    circle = mask_of("circle", 5)
    assert circle[0].tolist() == [0, 1, 1, 1, 0] and circle[2].tolist() == [1] * 5
    with pytest.raises(BadInput, match=r"Unknown shape 'sqare'\. Did you mean 'square'"):
        mask_of("sqare", 3)
    with pytest.raises(BadInput, match="size is 0"):
        mask_of("square", 0)


def test_a_mask_from_a_pictures_alpha(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (4, 2), (9, 9, 9, 255))
    picture.putpixel((3, 0), (9, 9, 9, 0))
    picture.save(tmp_path / "star.png")
    assert mask_of(str(tmp_path / "star.png"), 4).tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    Image.new("RGBA", (4, 2), (9, 9, 9, 0)).save(tmp_path / "none.png")
    with pytest.raises(BadInput, match="covers no pixel"):
        mask_of(str(tmp_path / "none.png"), 4)
    Image.new("RGB", (4, 2)).save(tmp_path / "plain.png")
    with pytest.raises(BadInput, match="no alpha channel"):
        mask_of(str(tmp_path / "plain.png"), 4)
    with pytest.raises(BadInput, match="There is no picture"):
        mask_of(str(tmp_path / "nowhere.png"), 4)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(BadInput, match="no picture that can be read"):
        mask_of(str(tmp_path / "text.png"), 4)


def test_pictures_hold_eight_bits_and_the_mask(tmp_path: Path) -> None:
    patch = a_patch()
    write_png(patch, tmp_path / "p.png")
    assert torch.equal(read_picture(tmp_path / "p.png", 3), patch.in_eight_bits().pixels)
    round_one = Patch(torch.rand(3, 5, 5), mask_of("circle", 5))
    alpha = picture_of(round_one).getchannel("A")
    assert alpha.getpixel((0, 0)) == 0 and alpha.getpixel((2, 2)) == 255
    assert png_bytes(from_pixels(patch.pixels)).startswith(b"\x89PNG")
    grey = photograph(tmp_path / "p.png", torch.ones(4, 5), 1)
    assert grey.shape == (1, 4, 5)
