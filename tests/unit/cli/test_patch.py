from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.cli import patch_train
from assay.intervals import clustered
from assay.patches import Patch, PatchProgress
from assay.patches.pictures import read_picture
from tests.unit.cli.patch_place import FILE, TRAIN, coloured, hits, write_named
from tests.unit.cli.workplace import Workplace

GREEN = (0, 255, 0)
# weak enough that places and pictures matter
DULL = (77, 158, 77)
EVALUATE = "patch evaluate --data folder:pictures --display none"


@pytest.fixture(autouse=True)
def named(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named(place.folder)
    monkeypatch.syspath_prepend(str(place.folder))
    monkeypatch.delitem(sys.modules, "toy", raising=False)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_training_writes_the_patch_and_its_picture(place: Workplace) -> None:
    said = place.assay(f"{TRAIN} --epochs 30 --batch 6 --optimizer adam --held-out 6")
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == FILE
    patch = Patch.load(FILE)
    assert (patch.target, patch.target_name, patch.size) == (1, "toaster", "4 x 4")
    assert (read_picture(Path(FILE).with_suffix(".png"), 3) - patch.pixels).abs().max() <= 0.5 / 255 + 1e-6
    # the class is the brightest channel, green
    red, green, blue = patch.pixels.mean((1, 2)).tolist()
    assert green > 0.9 > 0.1 > max(red, blue)
    assert patch.facts["data"] == "folder:pictures, 12 images"
    assert "Cost: 360 images forward and backward" in said.err
    # four of the six held out are of another class than the target
    assert "6 images held out" in said.out
    assert re.search(r"toaster 4 x 4 +named.py:cranes +50 +\d+\.\d % \[\d+-\d+\]", said.out)


def test_what_it_says_is_next_measures_the_same(place: Workplace) -> None:
    said = place.assay(f"{TRAIN} --epochs 30 --optimizer adam --held-out 6 --seed 3 --per-class 5")
    following = said.err.partition("Next      assay ")[2].strip()
    assert following.endswith("--data folder:pictures --per-class 5 --held-out 6 --seed 3")
    measured = place.assay(following, "--display", "none")
    assert measured.code == 0, measured.err

    def row(text: str) -> str:
        return next(line.strip() for line in text.splitlines() if line.strip().startswith("toaster 4 x 4"))

    assert row(measured.out) == row(said.out)


def stopping(at: tuple[int, int]) -> Callable[[object], Callable[[PatchProgress], None]]:
    def shown(_: object) -> Callable[[PatchProgress], None]:
        def show(now: PatchProgress) -> None:
            if (now.epoch, now.batch) == at:
                raise KeyboardInterrupt

        return show

    return shown


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_ctrl_c_keeps_the_finished_epochs(place: Workplace, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    line = f"{TRAIN} --epochs 4 --batch 6 --optimizer {optimizer}"
    assert place.assay(line).code == 0
    undisturbed = Patch.load(FILE)
    shutil.rmtree("runs")
    with monkeypatch.context() as patch:
        patch.setattr(patch_train, "_shown", stopping((3, 2)))
        stopped = place.assay(line)
    assert stopped.code == 130
    assert f"The finished epochs are kept; the same command continues:\n  assay {line}" in stopped.err
    assert not Path(FILE).exists()
    resumed = place.assay(line)
    assert resumed.code == 0, resumed.err
    again = Patch.load(FILE)
    assert (again.digest, again.facts) == (undisturbed.digest, undisturbed.facts)
    log = Path(FILE).with_suffix(".training") / "log.jsonl"
    assert [json.loads(one)["epoch"] for one in log.read_text().splitlines()] == [1, 2, 3, 4]


def test_another_training_in_its_place_is_refused_with_the_way_out(place: Workplace) -> None:
    assert place.assay(f"{TRAIN} --epochs 2").code == 0
    before = Path(FILE).read_bytes()
    said = place.assay(f"{TRAIN} --epochs 3")
    assert said.code == 2
    assert "'epochs': '2'} there, {'epochs': '3'} here. Name another patch with --out" in said.err
    assert Path(FILE).read_bytes() == before
    assert place.assay(f"{TRAIN} --epochs 3 --out other.safetensors").code == 0
    assert Path("other.png").is_file()


def test_few_pictures_are_one_batch_and_few_steps_are_told(place: Workplace) -> None:
    said = place.assay(f"{TRAIN} --epochs 2")
    assert said.code == 0
    assert "Note: 2 epochs of 1 step are few. For a stronger patch: --epochs 50 --optimizer adam" in said.err
    assert "Cost: 36 images" in said.err
    assert "Note" not in place.assay(f"{TRAIN} --epochs 17 --batch 6 --out long.safetensors").err


def test_a_photograph_as_it_is(place: Workplace) -> None:
    said = place.assay(f"{TRAIN} --start pictures/0/3.png --size 8 --epochs 0 --shape circle --out photo.safetensors")
    assert said.code == 0, said.err
    patch = Patch.load("photo.safetensors")
    assert patch.pixels.equal(read_picture(Path("pictures/0/3.png"), 3))
    assert 0 < patch.mask.sum() < 64
    assert not Path("photo.training").exists()


def test_without_a_target_the_answer_is_to_be_wrong(place: Workplace) -> None:
    said = place.assay(f"{TRAIN.replace('--target toaster ', '')} --epochs 2")
    assert said.code == 0, said.err
    assert said.out.strip() == "runs/patches/cranes-untargeted-4.safetensors"
    assert Patch.load(said.out.strip()).target is None


def test_several_models_at_once(place: Workplace) -> None:
    line = f"{TRAIN} --model named.py:colour_blind --epochs 30 --optimizer adam --out both.safetensors"
    assert place.assay(line).code == 0
    # green for the one is red for the other; blue helps neither
    red, green, blue = Patch.load("both.safetensors").pixels.mean((1, 2)).tolist()
    assert min(red, green) > 2 * blue


def test_a_name_that_is_part_of_another_is_told(place: Workplace) -> None:
    said = place.assay(f"{TRAIN.replace('toaster', 'crane')} --epochs 1")
    assert said.code == 0
    assert "Note: The target 'crane' was taken for class 0 ('crane'), not 'crane bird'." in said.err
    assert Patch.load(said.out.strip()).target == 0
    assert "Note: The target" not in place.assay(f"{TRAIN} --epochs 1").err


def test_measured_as_counted_by_hand(place: Workplace) -> None:
    coloured([value / 255 for value in DULL]).save(Path("dull.safetensors"))
    every = list(itertools.product(range(5), range(5)))
    whole = hits(place.folder, DULL, 4, every)
    assert 0 < whole.mean() < 1
    (found,) = json.loads(place.assay(f"{EVALUATE} dull.safetensors --model toy.py:linear --grid 1 --json").out)
    assert (found["patch"], found["model"], found["data"]) == ("toaster 4 x 4", "toy.py:linear", "folder:pictures")
    assert (found["images"], found["placements"], found["forwards"]) == (12, 25, 300)
    assert found["success"] == pytest.approx(whole.mean())
    assert found["worst_place"] == pytest.approx(whole.any(1).mean())
    assert (found["low"], found["high"]) == pytest.approx(clustered(whole.sum(1).tolist(), 25))
    assert found["success_top5"] == 1.0
    (fixed,) = json.loads(place.assay(f"{EVALUATE} dull.safetensors --model toy.py:linear --at 3,1 --json").out)
    assert fixed["placements"] == 1
    assert fixed["success"] == pytest.approx(hits(place.folder, DULL, 4, [(1, 3)]).mean())
    (some,) = json.loads(place.assay(f"{EVALUATE} dull.safetensors --model toy.py:linear --placements 7 --json").out)
    assert some["placements"] == 7
    # every third row and column, and the last
    sparse = list(itertools.product((0, 3, 4), (0, 3, 4)))
    (grid,) = json.loads(place.assay(f"{EVALUATE} dull.safetensors --model toy.py:linear --grid 3 --json").out)
    assert grid["success"] == pytest.approx(hits(place.folder, DULL, 4, sparse).mean())


def test_patches_on_models_are_a_matrix(place: Workplace) -> None:
    for folder, colour in (("green", (0, 1, 0)), ("red", (1, 0, 0))):
        Path(folder).mkdir()
        coloured(colour).save(Path(folder) / "patch.safetensors")
        coloured(colour).save(Path(f"{folder}.safetensors"))
    models = "--model named.py:cranes --model named.py:colour_blind --at 2,2"
    said = place.assay(f"{EVALUATE} green.safetensors red.safetensors {models}")
    assert said.code == 0, said.err
    matrix = said.out.partition("success by model")[2]
    assert matrix.split("transfer")[1].split()[:2] == ["named.py:cranes", "named.py:colour_blind"]
    rows = {
        name: re.findall(r"(\d+) %", line) for line in matrix.splitlines() for name in ("green", "red") if name in line
    }
    assert rows == {"green": ["100", "0"], "red": ["0", "100"]}
    # files of one name are told apart by their folders
    said = place.assay(f"{EVALUATE} green/patch.safetensors red/patch.safetensors {models} --json")
    named = {f"toaster 4 x 4 ({folder}/patch.safetensors)" for folder in ("green", "red")}
    assert {one["patch"] for one in json.loads(said.out)} == named
    # one patch, or one model, is no matrix
    assert "transfer" not in place.assay(f"{EVALUATE} green.safetensors {models}").out


def test_baselines_have_the_form_of_the_patch(place: Workplace) -> None:
    coloured((0, 1, 0)).save(Path("green.safetensors"))
    said = place.assay(f"{EVALUATE} green.safetensors --model toy.py:linear --at 0,0 --baselines --json")
    found = {one["patch"]: one["success"] for one in json.loads(said.out)}
    assert list(found) == ["toaster 4 x 4", "random pixels for toaster 4 x 4", "mid-grey for toaster 4 x 4"]
    # grey moves no channel before another
    assert found == {"toaster 4 x 4": 1.0, "random pixels for toaster 4 x 4": 0.0, "mid-grey for toaster 4 x 4": 0.0}


def test_held_out_pictures_are_those_that_training_left_out(place: Workplace) -> None:
    coloured((0, 1, 0)).save(Path("green.safetensors"))
    said = place.assay(f"{EVALUATE} green.safetensors --model toy.py:linear --held-out 6 --json")
    assert json.loads(said.out)[0]["images"] == 4


def test_a_class_of_another_name_is_told(place: Workplace) -> None:
    coloured((0, 1, 0)).save(Path("green.safetensors"))
    said = place.assay(f"{EVALUATE} green.safetensors --model named.py:others --at 0,0")
    assert said.code == 0
    assert "Note: class 1 is 'toaster' for the patch and 'crane' for named.py:others." in said.err


def test_ctrl_c_while_measuring(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    coloured((0, 1, 0)).save(Path("green.safetensors"))
    monkeypatch.setattr("assay.patches.measure", stop)
    said = place.assay(f"{EVALUATE} green.safetensors --model toy.py:linear")
    assert (said.code, said.out) == (130, "")
    assert "Stopped; nothing was kept." in said.err


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


def test_help_of_the_group_and_of_every_command(place: Workplace) -> None:
    said = place.assay("patch --help")
    assert all(f" {name} " in said.out for name in ("train", "evaluate", "apply", "sheet"))
    for name in ("train", "evaluate", "apply", "sheet"):
        told = place.assay(f"patch {name} --help")
        assert told.code == 0
        assert "…" not in flat(told.out).replace("folder:DIR, …", "")
        assert "ASSAY_" not in told.out


def test_the_command_in_the_file_is_the_one_that_was_typed(place: Workplace) -> None:
    place.assay(f"{TRAIN} --epochs 1")
    assert shlex.split(Patch.load(FILE).facts["command"]) == ["assay", *f"{TRAIN} --epochs 1".split()]
