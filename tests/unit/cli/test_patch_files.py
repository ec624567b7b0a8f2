from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.patch_place import TRAIN, coloured, write_named
from tests.support.workplace import Workplace

GREEN = (0, 255, 0)


@pytest.fixture(autouse=True)
def named(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named(place.folder)
    monkeypatch.syspath_prepend(str(place.folder))
    monkeypatch.delitem(sys.modules, "toy", raising=False)


def test_applying_is_pasting_by_hand(place: Workplace) -> None:
    coloured((0, 1, 0), 3).save(Path("green.safetensors"))
    before = Path("pictures/0/1.png").read_bytes()
    said = place.assay("patch apply green.safetensors pictures/0/1.png --at 4,2 --out patched")
    assert said.code == 0, said.err
    assert said.out == "patched/1-patched.png  (at 4,2)\n"
    assert Path("pictures/0/1.png").read_bytes() == before
    wanted = np.array(Image.open("pictures/0/1.png"))
    wanted[2:5, 4:7] = GREEN
    assert np.array_equal(np.asarray(Image.open("patched/1-patched.png")), wanted)


def test_a_mask_lets_the_picture_through(place: Workplace) -> None:
    Image.new("RGBA", (2, 1)).save("mask.png")
    mask = Image.new("RGBA", (2, 1))
    mask.putpixel((1, 0), (0, 0, 0, 255))
    mask.save("mask.png")
    Image.new("RGB", (2, 1), GREEN).save("start.png")
    line = f"{TRAIN} --shape mask.png --start start.png --epochs 0 --out m.safetensors".replace("--size 4", "--size 2")
    assert place.assay(line).code == 0
    assert place.assay("patch apply m.safetensors pictures/0/1.png --at 0,0 --out patched").code == 0
    wanted = np.array(Image.open("pictures/0/1.png"))
    wanted[0, 1] = GREEN
    assert np.array_equal(np.asarray(Image.open("patched/1-patched.png")), wanted)


def test_random_places_are_the_same_again_and_no_picture_is_lost(place: Workplace) -> None:
    coloured((0, 1, 0), 3).save(Path("green.safetensors"))
    line = "patch apply green.safetensors pictures/0/1.png pictures/1/1.png pictures/0/2.png --out patched"
    first = place.assay(line)
    assert [one.split("  ")[0] for one in first.out.splitlines()] == [
        "patched/1-patched.png", "patched/1-patched-2.png", "patched/2-patched.png",
    ]  # fmt: skip
    assert place.assay(line).out == first.out
    seeds = {place.assay(f"{line} --seed {seed}").out for seed in range(4)}
    assert len(seeds) > 1


def test_a_sheet_lies_beside_the_patch(place: Workplace) -> None:
    coloured((0, 1, 0), 3).save(Path("green.safetensors"))
    said = place.assay("patch sheet green.safetensors --width 4 --copies 2")
    assert (said.code, said.out) == (0, "green.pdf\n")
    assert Path("green.pdf").read_bytes().startswith(b"%PDF")
    assert place.assay("patch sheet green.safetensors --out here/sheet.pdf").out == "here/sheet.pdf\n"


def flat(text: str) -> str:
    return " ".join(text.split())


def test_help_of_the_group_and_of_every_command(place: Workplace) -> None:
    said = place.assay("patch --help")
    assert all(f" {name} " in said.out for name in ("train", "evaluate", "apply", "sheet"))
    for name in ("train", "evaluate", "apply", "sheet"):
        told = place.assay(f"patch {name} --help")
        assert told.code == 0
        assert "…" not in flat(told.out).replace("folder:DIR, …", "")
        assert "ASSAY_" not in told.out
