from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.workplace import RUN, Workplace


@pytest.fixture
def ran(place: Workplace) -> Workplace:
    assert place.assay(f"{RUN} --out runs/r").code == 0
    return place


def test_images_come_with_an_index(ran: Workplace) -> None:
    said = ran.assay("export images runs/r --out images --display none")
    assert (said.code, said.out) == (0, "images/index.csv\n")
    with Path("images/index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and said.err.startswith(f"{len(rows)} images in images.\n")
    records = json.loads(ran.assay("show runs/r --json").out)["results"]
    broken = sum(round(one["n"] * (one["clean_accuracy"] - one["robust_accuracy"])) for one in records)
    assert len(rows) == broken
    for row in rows:
        before = np.array(Image.open(Path("pictures") / row["sample_id"])).astype(int)
        after = np.array(Image.open(Path("images") / row["file"])).astype(int)
        levels = {"4/255": 4, "16/255": 16}[row["eps_written"]]
        assert abs(after - before).max() == levels and float(row["size"]) == pytest.approx(levels / 255)
        assert row["label"] == row["sample_id"].partition("/")[0] != row["prediction"]
        assert row["still_fools"] == row["inside_budget"] == "true"


def test_exported_images_are_data_again(ran: Workplace) -> None:
    ran.assay("export images runs/r --out images --eps 16/255 --display none")
    (folder,) = Path("images").glob("fgsm-*/16-255")
    line = f"run --model toy.py:linear --data folder:{folder} --attack fgsm --eps 1/255 --audit off --no-doctor"
    assert ran.assay(f"{line} --out runs/again --display none").code == 0
    (one,) = json.loads(ran.assay("show runs/again --json").out)["results"]
    assert one["clean_accuracy"] == 0


def test_json_and_the_same_command_again(ran: Workplace) -> None:
    line = "export images runs/r --out images --as npy --only all --json --display none"
    said = ran.assay(line)
    found = json.loads(said.out)
    assert said.code == 0 and found["images"] == 36 and found["fooling"] == found["broken"] and found["differ"] == 0
    before = Path("images/index.csv").stat().st_mtime_ns
    assert json.loads(ran.assay(line).out) == found
    assert Path("images/index.csv").stat().st_mtime_ns == before


def test_a_model_that_answers_otherwise_each_time(place: Workplace) -> None:
    line = RUN.replace("toy.py:linear", "toy.py:noisy").replace("4/255,16/255", "6/255,12/255")
    assert place.assay(f"{line} --no-doctor --out runs/noisy").code == 0
    said = place.assay("export images runs/noisy --out images --as npy --display none")
    told = json.loads(place.assay("export images runs/noisy --out images --as npy --json").out)
    assert said.code == (3 if told["differ"] else 0)
    assert ("came out differently" in said.err) == bool(told["differ"])


def test_refusals_come_before_the_work(ran: Workplace) -> None:
    for line, told in (
        ("export images pictures --out images", "pictures is not a run directory"),
        ("export images runs/r --out pictures", "pictures holds other files (0, 1, 2). Nothing is overwritten"),
        ("export images runs/r --out toy.py", "toy.py is a file"),
        ("export images runs/r --out images --attack pgd", "No chosen cell has the attack 'pgd'"),
    ):
        said = ran.assay(f"{line} --display none")
        assert said.code == 2 and told in said.err, said
    assert not Path("images").exists() and sorted(path.name for path in Path("pictures").iterdir()) == ["0", "1", "2"]
