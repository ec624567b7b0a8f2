from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path

import pytest

from assay.statistics import clustered
from tests.support.patch_place import coloured, hits, write_named
from tests.support.workplace import Workplace

# weak enough that places and pictures matter
DULL = (77, 158, 77)
EVALUATE = "patch evaluate --data folder:pictures --display none"


@pytest.fixture(autouse=True)
def named(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named(place.folder)
    monkeypatch.syspath_prepend(str(place.folder))
    monkeypatch.delitem(sys.modules, "toy", raising=False)


def test_measured_as_counted_by_hand(place: Workplace) -> None:
    coloured([value / 255 for value in DULL]).save(Path("dull.safetensors"))
    every = list(itertools.product(range(5), range(5)))
    whole = hits(place.folder, DULL, 4, every)
    assert 0 < whole.mean() < 1
    (found,) = json.loads(place.assay(f"{EVALUATE} dull.safetensors --model toy.py:linear --grid 1 --json").out)
    assert (found["patch"], found["model"], found["data"]) == ("dull", "toy.py:linear", "folder:pictures")
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
    named = {f"{folder}/patch.safetensors" for folder in ("green", "red")}
    assert {one["patch"] for one in json.loads(said.out)} == named
    # one file named twice is one patch, and one patch, or one model, is no matrix
    twice = place.assay(f"{EVALUATE} green.safetensors green.safetensors --model named.py:cranes --json")
    assert [one["patch"] for one in json.loads(twice.out)] == ["green"]
    assert "transfer" not in place.assay(f"{EVALUATE} green.safetensors {models}").out


def test_baselines_have_the_form_of_the_patch(place: Workplace) -> None:
    coloured((0, 1, 0)).save(Path("green.safetensors"))
    said = place.assay(f"{EVALUATE} green.safetensors --model toy.py:linear --at 0,0 --baselines --json")
    found = {one["patch"]: one["success"] for one in json.loads(said.out)}
    # grey moves no channel before another
    assert found == {"green": 1.0, "green: random pixels": 0.0, "green: mid-grey": 0.0}


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
