from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.cli import patch_train
from assay.patches import Patch, PatchProgress
from assay.patches.pictures import read_picture
from tests.support.patch_place import FILE, TRAIN, write_named
from tests.support.workplace import Workplace


@pytest.fixture(autouse=True)
def named(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named(place.folder)
    monkeypatch.syspath_prepend(str(place.folder))
    monkeypatch.delitem(sys.modules, "toy", raising=False)


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
        return next(line.partition("named.py:cranes")[2].strip() for line in text.splitlines() if "named.py" in line)

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
    assert "Note: 2 epochs of 1 step are few. For a stronger patch: --epochs 400 --optimizer adam" in said.err
    assert "Cost: 36 images" in said.err
    assert "Note" not in place.assay(f"{TRAIN} --epochs 34 --batch 6 --out long.safetensors").err


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


def test_the_command_in_the_file_is_the_one_that_was_typed(place: Workplace) -> None:
    place.assay(f"{TRAIN} --epochs 1")
    assert shlex.split(Patch.load(FILE).facts["command"]) == ["assay", *f"{TRAIN} --epochs 1".split()]
