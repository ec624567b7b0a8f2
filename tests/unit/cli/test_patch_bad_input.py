"""What `assay patch` says to a slip: the value, what was expected, the fix; and that nothing was written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.patch_place import TRAIN, coloured, write_named
from tests.support.workplace import Workplace


@pytest.fixture(autouse=True)
def files(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named(place.folder)
    monkeypatch.syspath_prepend(str(place.folder))
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save("invisible.png")
    Image.new("RGB", (8, 8)).save("opaque.png")
    Path("no-picture.png").write_text("text")
    coloured((0, 1, 0)).save(Path("green.safetensors"))
    coloured((0, 1, 0), target=7, name="class 7").save(Path("seventh.safetensors"))
    coloured((0, 1, 0), 12).save(Path("large.safetensors"))


def refused(place: Workplace, line: str) -> str:
    said = place.assay(line)
    assert said.code == 2, said.err
    assert not Path("runs").exists() and not Path("patched").exists()
    return " ".join(said.err.replace("│", " ").split())


NAMELESS = TRAIN.replace("named.py:cranes", "toy.py:linear")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"{TRAIN} --target toster", "Unknown target class 'toster'. Did you mean 'toaster'? Give its number, 0 to 2"),
        (f"{TRAIN} --target 3", "The target class 3 does not exist: the model has 3 classes, 0 to 2."),
        (f"{NAMELESS} --target 7", "The target class 7 does not exist: the model has 3 classes, 0 to 2."),
        (
            NAMELESS,
            "--target toaster: neither toy.py:linear nor folder:pictures says what classes are called. Give the number,"
            " 0 to 2.",
        ),
        (f"{TRAIN} --size 9", "The patch is 9 x 9 pixels, the image only 8 x 8. Use a smaller one."),
        (f"{TRAIN} --size 0", "The size is 0; expected 1 pixel or more."),
        (f"{TRAIN} --size -4", "The size is -4; expected 1 pixel or more."),
        (f"{TRAIN} --shape cirle", "Unknown shape 'cirle'. Did you mean 'circle'? There are: square, circle"),
        (f"{TRAIN} --shape nowhere.png", "There is no picture nowhere.png"),
        (f"{TRAIN} --shape opaqe.png", "Did you mean 'opaque.png'?"),
        (f"{TRAIN} --shape invisible.png", "covers no pixel at 4 pixels: its alpha is zero everywhere"),
        (f"{TRAIN} --shape opaque.png", "opaque.png has no alpha channel"),
        (f"{TRAIN} --shape no-picture.png", "no-picture.png is no picture that can be read"),
        (f"{TRAIN} --start nowhere.png", "There is no picture nowhere.png"),
        (f"{TRAIN} --at 5,0", "row 0, column 5 leaves the image; expected rows 0 to 4 and columns 0 to 4"),
        (f"{TRAIN} --at 5", "The place '5' is none; expected X,Y in pixels from the top left, such as 10,20"),
        (f"{TRAIN} --batch 19", "A batch of 19 cannot be drawn from 18 images. Use a smaller one."),
        (f"{TRAIN} --batch 13 --held-out 6", "A batch of 13 cannot be drawn from 12 images."),
        (f"{TRAIN} --batch 0", "batch 0; expected 0 or more, and 1 or more"),
        (f"{TRAIN} --epochs -1", "epochs is -1"),
        (f"{TRAIN} --rate 0", "rate is 0.0"),
        (f"{TRAIN} --optimizer addam", "Unknown optimizer 'addam'. Did you mean 'adam'?"),
        (f"{TRAIN} --held-out 18", "--held-out is 18 of 18 images; expected 1 to 17"),
        (f"{TRAIN} --held-out -1", "--held-out is -1 of 18 images; expected 1 to 17"),
        (f"{TRAIN} --scale big", "--scale big: expected FROM,TO such as 0.7,1.1."),
        (f"{TRAIN} --scale 0.5,1,2", "--scale 0.5,1,2: expected FROM,TO such as 0.7,1.1."),
        (f"{TRAIN} --scale 0.5,inf", "--scale 0.5,inf: expected FROM,TO such as 0.7,1.1."),
        (f"{TRAIN} --scale 1.2,0.8", "expected two positive numbers, the smaller first"),
        (f"{TRAIN} --jpeg 101", "jpeg is 101; expected a quality from 1 to 100"),
        (f"{TRAIN} --model named.py:larger", "images of different sizes: named.py:cranes 3 x 8 x 8 and"),
        (f"{TRAIN} --published --size 7", "The published offsets leave out the last two rows and columns"),
        (f"{TRAIN} --out patch.png", "--out patch.png: a patch is a .safetensors file"),
        (f"{TRAIN} --data folder:picture", "There is no directory"),
        ("patch train --target 1", "Missing option '--model'"),
        ("patch evaluate --model toy.py:linear", "Missing argument 'patches'"),
        ("patch evaluate gren.safetensors --model toy.py:linear", "no patch gren.safetensors. Did you mean 'green"),
        ("patch evaluate opaque.png --model toy.py:linear", "opaque.png"),
        (
            "patch evaluate large.safetensors --model toy.py:linear --data folder:pictures",
            "The patch is 12 x 12 pixels, the image only 8 x 8.",
        ),
        (
            "patch evaluate seventh.safetensors --model toy.py:linear --data folder:pictures",
            "The patch class 7 4 x 4 is for class 7, and toy.py:linear has 3 classes, 0 to 2.",
        ),
        (
            "patch evaluate green.safetensors --model toy.py:linear --data folder:pictures --placements 0",
            "placements is 0; expected 1 or more",
        ),
        (
            "patch evaluate green.safetensors --model toy.py:linear --data folder:pictures --grid 0",
            "The stride is 0, expected 1 pixel or more.",
        ),
        (
            "patch evaluate green.safetensors --model toy.py:linear --data folder:pictures --at 9,9",
            "row 9, column 9 leaves the image",
        ),
        ("patch evaluate green.safetensors --model toy.py:linear --grid 2 --at 1,1", "two ways to place; give one"),
        ("patch apply green.safetensors pictures/0/9.png", "There is no picture pictures/0/9.png"),
        ("patch apply green.safetensors no-picture.png", "no-picture.png is no picture that can be read"),
        ("patch apply large.safetensors pictures/0/0.png --out patched", "pictures/0/0.png: The patch is 12 x 12"),
        ("patch apply green.safetensors pictures/0/0.png --at 6,0", "pictures/0/0.png: The patch at row 0, column 6"),
        ("patch sheet gren.safetensors", "There is no patch gren.safetensors. Did you mean 'green.safetensors'?"),
        ("patch sheet green.safetensors --width 19", "does not fit on A4 within 18 x 24.2 cm"),
        ("patch sheet green.safetensors --copies 3", "3 copies of 10 cm asked for; one to 2 fit on the page"),
        ("patch trian", "train"),
    ],
)  # fmt: skip
def test_slips_are_told_and_nothing_is_written(place: Workplace, line: str, says: str) -> None:
    assert says in refused(place, line)


@pytest.mark.parametrize("flags", ["--rotation 10", "--scale 0.7,1", "--perspective 0.1", "--jpeg 60"])
def test_kornia_is_named_where_it_is_missing(place: Workplace, monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    told = refused(place, f"{TRAIN} {flags}")
    assert "need kornia, which is not installed. Install it with: pip install 'assay[eot]'" in told


def test_light_needs_no_kornia(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    assert place.assay(f"{TRAIN} --brightness 0.1 --contrast 0.1 --epochs 1").code == 0
