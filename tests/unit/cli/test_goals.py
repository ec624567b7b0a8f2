"""Goals on the command line: what is left out is shown everywhere, and a file gives each image its target."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tests.support.workplace import Workplace

RUN = "run --model toy.py:linear --data folder:pictures --eps 4/255,40/255 --display none --attack bim:steps=3"


def test_images_of_the_target_class_are_left_out_and_shown(place: Workplace) -> None:
    said = place.assay(f"{RUN} --audit off --out r --no-doctor", "--goal", "targeted 2")
    assert said.code == 0, said.err
    told = json.loads(place.assay("show r --json").out)["results"]
    assert [(one["n"], one["excluded"], one["errors"]) for one in told] == [(12, 6, 0)] * 2
    assert told[1]["attack_success"] > 0
    assert "6 images left out, whose label is the target: in none of these numbers" in place.assay("show r").out
    rows = list(csv.DictReader(place.assay("show r --format csv").out.splitlines()))
    assert [row["excluded"] for row in rows] == ["6", "6"]
    assert place.assay("report r --out page.html").code == 0
    assert "6 images left out" in Path("page.html").read_text()


def test_a_file_of_targets(place: Workplace) -> None:
    lines = ["file,target"]
    lines += [f"{label}/{i}.png,{(label + i % 3) % 3}" for label in range(3) for i in range(6)]
    Path("t.csv").write_text("\n".join(lines))
    said = place.assay(f"{RUN} --audit off --out r --no-doctor", "--goal", "targeted file t.csv")
    assert said.code == 0, said.err
    told = json.loads(place.assay("show r --json").out)["results"]
    assert [(one["n"], one["excluded"]) for one in told] == [(12, 6)] * 2
    shown = place.assay("show r").out
    assert "targeted file t.csv" in shown and "#" not in shown
    # the file says where each image is to go; a changed one is another study
    Path("t.csv").write_text("\n".join(lines).replace("0/1.png,1", "0/1.png,2"))
    said = place.assay(f"{RUN} --audit off --out r --no-doctor", "--goal", "targeted file t.csv")
    assert said.code == 2 and "belongs to another study (goal" in said.err


def test_what_cannot_be_aimed_at_is_one_sentence(place: Workplace) -> None:
    Path("t.csv").write_text("1\n2\n")
    for goal, words in (
        ("targeted file t.csv", "t.csv has 2 targets, folder:pictures has 18 images"),
        ("targeted file none.csv", "none.csv cannot be read"),
        ("targeted column", "has no target for each image"),
        ("targeted 5", "target class 5 does not exist"),
    ):
        said = place.assay(f"{RUN} --audit off --out r --no-doctor", "--goal", goal)
        assert said.code == 2 and words in said.err and "Traceback" not in said.err
    Path("only").mkdir()
    Path("pictures/1").rename("only/1")
    only = RUN.replace("folder:pictures", "folder:only")
    said = place.assay(f"{only} --audit off --out r --no-doctor", "--goal", "targeted 1")
    assert said.code == 2 and "there is nothing to attack" in said.err
