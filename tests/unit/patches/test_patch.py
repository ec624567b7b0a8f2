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
        (torch.zeros(3, 2, 2), torch.full((2, 2), torch.nan), "NaN"),
        (torch.zeros(0, 2, 2), torch.ones(2, 2), "expected"),
        (torch.zeros(3, 0, 0), torch.ones(0, 0), "expected"),
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


def test_saving_twice_gives_the_same_bytes_and_no_other_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        a_patch().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    Patch.load(tmp_path / "a").save(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()


def test_a_changed_mask_is_noticed_too(tmp_path: Path) -> None:
    from safetensors.torch import save

    from assay.models.weights_file import read_safetensors

    a_patch().save(tmp_path / "p.safetensors")
    tensors, told = read_safetensors(tmp_path / "p.safetensors")
    tensors["mask"][0, 0] = 0.5
    (tmp_path / "p.safetensors").write_bytes(save(tensors, told))
    with pytest.raises(BadInput, match="was changed after it was written"):
        Patch.load(tmp_path / "p.safetensors")


def test_a_file_is_applied_without_anything_else(tmp_path: Path) -> None:
    """A fresh interpreter, the file alone, and three lines: no model, no data, no recipe."""
    import subprocess
    import sys

    patch = Patch(a_patch().pixels, torch.linspace(0, 1, 20).view(4, 5), 2)
    patch.save(tmp_path / "p.safetensors")
    script = (
        "import torch; from assay.attacks.patch import paste; from assay.patches.patch import Patch\n"
        "p = Patch.load('p.safetensors')\n"
        "torch.save(paste(torch.zeros(1, 3, 9, 9), p.pixels, p.mask, torch.tensor([[5, 4]])), 'out.pt')"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    expected = torch.zeros(1, 3, 9, 9)
    expected[0, :, 5:9, 4:9] = patch.pixels * patch.mask
    assert torch.equal(torch.load(tmp_path / "out.pt"), expected)


def test_transparency_of_a_picture_with_a_palette_is_a_mask_too(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([0, 0, 0, 250, 250, 250])
    picture.putpixel((0, 1), 0)
    picture.save(tmp_path / "palette.png", transparency=0)
    assert mask_of(str(tmp_path / "palette.png"), 4).tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_a_circle_is_round_and_touches_its_sides(size: int) -> None:
    circle = mask_of("circle", size)
    assert torch.equal(circle, circle.T) and torch.equal(circle, circle.flip(0))
    assert bool(circle[0].any()) and bool(circle[:, -1].any())
    assert float(circle.mean()) == pytest.approx(torch.pi / 4, abs=1 / size)


def test_grey_patches_and_masks_keep_their_pixels_in_pictures(tmp_path: Path) -> None:
    grey = Patch(torch.rand(1, 6, 6), mask_of("circle", 6))
    write_png(grey, tmp_path / "grey.png")
    with Image.open(tmp_path / "grey.png") as picture:
        assert picture.mode == "LA"
    assert torch.equal(mask_of(str(tmp_path / "grey.png"), 6), grey.mask)
    assert torch.equal(read_picture(tmp_path / "grey.png", 1), grey.in_eight_bits().pixels)
    levels = grey.in_eight_bits().pixels * 255
    assert float((levels - levels.round()).abs().max()) < 1e-4
    assert float((grey.in_eight_bits().pixels - grey.pixels).abs().max()) <= 0.5 / 255 + 1e-6


def test_a_photograph_is_cut_to_the_masks_form(tmp_path: Path) -> None:
    wide = Image.new("RGB", (30, 10), (255, 0, 0))
    wide.paste((0, 0, 255), (10, 0, 20, 10))
    wide.save(tmp_path / "wide.png")
    middle = photograph(tmp_path / "wide.png", torch.ones(5, 5), 3)
    assert middle.shape == (3, 5, 5) and float(middle[2].min()) > 0.9 and float(middle[0].max()) < 0.1
    with pytest.raises(BadInput, match=r"no picture .*wide.pgn. Did you mean 'wide.png'"):
        photograph(tmp_path / "wide.pgn", torch.ones(5, 5), 3)
