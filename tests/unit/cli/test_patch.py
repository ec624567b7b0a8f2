from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.core.errors import BadInput
from assay.patches import Patch
from assay.patches.pictures import mask_of, read_picture
from assay.patches.sheet import write_sheet
from tests.support.workplace import Workplace

MODEL = """
from tests.support.patch_toys import model

def first():
    return model(0)

def second():
    return model(3)

def small():
    import dataclasses
    return dataclasses.replace(model(0), input_shape=(3, 9, 9))
"""
TRAIN = "patch train --model patchy.py:first --data folder:photos --size 5 --batch 4 --epochs 2 --display none"


@pytest.fixture
def lab(place: Workplace) -> Workplace:
    """Put models and twelve pictures of noise in three classes into the folder."""
    Path("patchy.py").write_text(MODEL)
    generator = np.random.default_rng(0)
    for i in range(12):
        path = Path("photos") / ("grey heron", "crane", "crane bird")[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    return place


def test_train_writes_a_patch_and_measures_it_on_what_it_has_not_seen(lab: Workplace) -> None:
    said = lab.assay(f"{TRAIN} --target crane --held-out 3 --out p.safetensors")
    assert said.code == 0, said.err
    assert "The target 'crane' was taken for class 1 ('crane'), not 'crane bird'." in said.err
    assert "3 images held out" in said.out and "p.safetensors" in said.out
    assert "Next      assay patch evaluate p.safetensors" in said.err and "--held-out 3 --seed 0" in said.err
    patch = Patch.load("p.safetensors")
    assert (patch.target, patch.target_name, patch.size) == (1, "crane", "5 x 5")
    assert "9 images" in patch.facts["data"] and patch.facts["command"].startswith("assay patch train")
    assert torch.equal(read_picture(Path("p.png"), 3), patch.in_eight_bits().pixels)


def test_ctrl_c_keeps_the_epochs_and_says_how_to_go_on(lab: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"{TRAIN} --target 2 --optimizer adam"
    assert lab.assay(f"{line} --out whole.safetensors").code == 0
    from assay.patches import train

    kept = train.Checkpoint.save

    def once(self: Any, rows: Any) -> None:
        kept(self, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train.Checkpoint, "save", once)
        said = lab.assay(f"{line} --out cut.safetensors")
    assert said.code == 130 and f"the same command continues:\n  assay {line} --out cut.safetensors" in said.err
    assert not Path("cut.safetensors").exists()
    assert lab.assay(f"{line} --out cut.safetensors").code == 0
    assert torch.equal(Patch.load("cut.safetensors").pixels, Patch.load("whole.safetensors").pixels)


def test_evaluate_measures_transfer(lab: Workplace) -> None:
    for name in ("first", "second"):
        line = TRAIN.replace("first", name)
        assert lab.assay(f"{line} --target 1 --out {name}.safetensors").code == 0
    both = "patch evaluate first.safetensors second.safetensors --model patchy.py:first --model patchy.py:second"
    said = lab.assay(f"{both} --data folder:photos --placements 6 --display none --json")
    found = json.loads(said.out)
    assert [row["model"] for row in found] == ["patchy.py:first"] * 2 + ["patchy.py:second"] * 2
    assert {(row["images"], row["placements"], row["forwards"]) for row in found} == {(8, 6, 48)}
    assert all(row["low"] <= row["success"] <= row["high"] for row in found)
    said = lab.assay(f"{both} --data folder:photos --grid 3 --display none")
    assert "transfer" in said.out and "worst place" in said.out
    alone = "patch evaluate first.safetensors --model patchy.py:first --data folder:photos --at 2,3 --display none"
    base = lab.assay(f"{alone} --baselines")
    assert "first: random pixels" in base.out and "first: mid-grey" in base.out


def test_apply_pastes_and_leaves_the_pictures_alone(lab: Workplace) -> None:
    assert lab.assay(f"{TRAIN} --target 1 --shape circle --out p.safetensors").code == 0
    before = Path("photos/crane/1.png").read_bytes()
    said = lab.assay("patch apply p.safetensors photos/crane/1.png photos/crane/4.png --at 4,2 --out out")
    assert said.code == 0 and "out/1-patched.png  (at 4,2)" in said.out
    assert Path("photos/crane/1.png").read_bytes() == before
    patch = Patch.load("p.safetensors")
    expected = read_picture(Path("photos/crane/1.png"), 3)
    window = expected[:, 2:7, 4:9]
    expected[:, 2:7, 4:9] = window * (1 - patch.mask) + patch.pixels * patch.mask
    pasted = read_picture(Path("out/1-patched.png"), 3)
    assert float((pasted - expected).abs().max()) <= 0.5 / 255 + 1e-6
    one, two = (lab.assay(f"patch apply p.safetensors photos/crane/1.png --seed {seed} --out o").out for seed in (1, 1))
    assert one == two


def test_a_sheet_has_the_size_that_was_asked_for(lab: Workplace, tmp_path: Path) -> None:
    patch = Patch(torch.zeros(3, 8, 8), mask_of("circle", 8), 1, "crane")
    patch.save(Path("p.safetensors"))
    said = lab.assay("patch sheet p.safetensors --width 6 --copies 3")
    assert said.code == 0 and said.out.strip() == "p.pdf"
    content = Path("p.pdf").read_bytes()
    assert content.startswith(b"%PDF") and content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") >= 1
    if shutil.which("pdftoppm"):
        subprocess.run(["pdftoppm", "-r", "100", "-png", "-singlefile", "p.pdf", "page"], check=True)
        page = np.array(Image.open("page.png").convert("L"))
        # A4 at 100 dots per inch
        assert abs(page.shape[0] - 1169) <= 1 and abs(page.shape[1] - 827) <= 1
        top = page[: int(7.6 / 2.54 * 100)] < 128
        columns = np.flatnonzero(top.any(0))
        # two circles of 6 cm side by side, half a centimetre between them
        assert abs((columns[-1] - columns[0]) / 100 * 2.54 - 12.5) < 0.1
    for width, copies, says in ((25.0, 1, "does not fit on A4"), (0.0, 1, "does not fit"), (9.0, 7, "one to 2 fit")):
        with pytest.raises(BadInput, match=says):
            write_sheet(patch, tmp_path / "x.pdf", width, copies)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--target cran", "Unknown target class 'cran'. Did you mean 'crane'"),
        ("--target 3", "target class 3 does not exist"),
        ("--target 1 --size 13", "13 x 13 pixels"),
        ("--target 1 --size 0", "size is 0"),
        ("--target 1 --shape sqare", "Did you mean 'square'"),
        ("--target 1 --shape none.png", "covers no pixel"),
        ("--target 1 --start nowhere.png", "There is no picture nowhere.png"),
        ("--target 1 --at 9,0", "row 0, column 9 leaves the image"),
        ("--target 1 --at nine", "expected X,Y"),
        ("--target 1 --scale wide", "expected FROM,TO"),
        ("--target 1 --held-out 12", "--held-out is 12 of 12 images; expected 1 to 11"),
        ("--target 1 --batch 13", "A batch of 13 cannot be drawn from 12 images"),
        ("--target 1 --optimizer sdg", "Did you mean 'sgd'"),
        ("--target 1 --model patchy.py:small", "images of different sizes"),
        ("--target 1 --rotation 5 --scale 2,1", "smaller first"),
    ],
)
def test_slips_of_training_are_told(lab: Workplace, flags: str, says: str) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save("none.png")
    said = lab.assay(f"{TRAIN} {flags} --out p.safetensors")
    assert said.code == 2, said.err
    assert says in " ".join(said.err.split())
    assert not Path("p.safetensors").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("evaluate nowhere.safetensors --model patchy.py:first", "There is no patch"),
        ("evaluate p.safetensors --model patchy.py:first --data folder:photos --grid 2 --at 1,1", "give one"),
        ("evaluate p.safetensors --model patchy.py:first --data folder:photos --placements 0", "placements is 0"),
        ("apply p.safetensors nowhere.png", "There is no picture"),
        ("apply p.safetensors photos/crane/1.png --at 11,0", "leaves the image"),
        ("sheet p.safetensors --width 30", "does not fit on A4"),
    ],
)
def test_slips_of_using_are_told(lab: Workplace, line: str, says: str) -> None:
    Patch(torch.zeros(3, 4, 4), torch.ones(4, 4), 1, "crane").save(Path("p.safetensors"))
    said = lab.assay(f"patch {line}")
    assert said.code == 2, said.err
    assert says in " ".join(said.err.split())
