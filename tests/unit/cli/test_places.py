"""What is there already is not overwritten, and a refusal comes before the work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from assay.console.places import free_name
from tests.support.workplace import RUN, Workplace

QUIET = "--data folder:pictures --display none"
PATCH = f"patch train --model toy.py:linear {QUIET} --size 3 --epochs 1 --batch 6 --out mine.safetensors"
UNIVERSAL = f"universal train --model toy.py:linear {QUIET} --eps 0.1 --steps 2 --out mine.safetensors"


def test_a_free_name(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert free_name(path, b"1") == path
    path.write_bytes(b"1")
    assert free_name(path, b"1") == path, "the same again changes nothing"
    assert free_name(path, b"1", {path}).name == "a-2.png"
    assert free_name(path, b"2").name == "a-2.png"
    (tmp_path / "a-2.png").mkdir()
    assert free_name(path, b"2").name == "a-3.png"


@pytest.mark.parametrize("line", [PATCH, UNIVERSAL])
def test_files_of_others_stay(place: Workplace, line: str) -> None:
    Path("mine.safetensors").write_text("mine")
    # a model that does not exist: it is not even looked for
    said = place.assay(line.replace("toy.py:linear", "toy.py:absent"))
    assert (said.code, said.err) == (
        2,
        "mine.safetensors is there already. Name another --out, or replace it with --force.\n",
    )
    assert Path("mine.safetensors").read_text() == "mine"
    assert place.assay(f"{line} --force").code == 0
    assert Path("mine.safetensors").read_bytes() != b"mine"


def test_a_picture_beside_the_patch_stays(place: Workplace) -> None:
    Path("mine.png").write_text("mine")
    said = place.assay(PATCH)
    assert said.code == 2 and "mine.png is there already" in said.err
    assert Path("mine.png").read_text() == "mine" and not Path("mine.safetensors").exists()


def test_a_patch_of_the_same_training_goes_on(place: Workplace) -> None:
    assert place.assay(PATCH).code == 0
    before = Path("mine.safetensors").read_bytes()
    assert place.assay(PATCH).code == 0
    assert Path("mine.safetensors").read_bytes() == before
    said = place.assay(f"{PATCH} --seed 1")
    assert said.code == 2 and "mine.training holds another training" in said.err
    shutil.rmtree("mine.training")
    assert "mine.safetensors is there already" in place.assay(f"{PATCH} --seed 1").err
    assert Path("mine.safetensors").read_bytes() == before


def test_pages_sheets_and_schemas(place: Workplace) -> None:
    assert place.assay(f"{RUN} --out runs/r").code == 0
    place.assay(PATCH.replace("mine", "p"))
    for name in ("page.html", "sheet.pdf", "study.schema.json"):
        Path(name).write_text("mine")
    (Path("charts")).mkdir()
    Path("charts/curve.svg").write_text("mine")
    for line, told in (
        ("report runs/r --out page.html", "page.html is there already"),
        ("report runs/r --format svg --out charts", "charts holds svg files already (curve.svg)"),
        ("patch sheet p.safetensors --out sheet.pdf", "sheet.pdf is there already"),
        ("schema --out .", "study.schema.json is there already"),
        ("paper report --page page.html", "page.html is there already. Name another --page"),
        ("paper report --figures charts", "Name another --figures"),
    ):
        said = place.assay(line)
        assert said.code == 2 and told in said.err, said
    assert {Path(name).read_text() for name in ("page.html", "sheet.pdf", "study.schema.json")} == {"mine"}
    for line in ("patch sheet p.safetensors --out sheet.pdf", "schema --out ."):
        assert place.assay(f"{line} --force").code == 0
    assert place.assay("schema --out .").code == 0, "the same again changes nothing"
    # the page of the run itself is drawn anew each time
    assert [place.assay("report runs/r").code for _ in range(2)] == [0, 0]


def test_pictures_of_one_name_are_numbered_across_calls(place: Workplace) -> None:
    place.assay(PATCH)
    calls = [f"patch apply mine.safetensors pictures/{k}/0.png --at 1,2 --out pasted" for k in (0, 1, 0, 2)]
    told = [place.assay(line).out.split()[0] for line in calls]
    first, second, third = (f"pasted/0-patched{number}.png" for number in ("", "-2", "-3"))
    assert told == [first, second, first, third]
    assert len({Path(name).read_bytes() for name in told}) == 3


def test_weights_of_others_stay(place: Workplace) -> None:
    Path("nets").mkdir()
    Path("nets/toy.py-linear.safetensors").write_text("mine")
    line = f"train standard --arch toy.py:linear {QUIET} --validation 6 --epochs 1 --test= --out nets"
    said = place.assay(line)
    assert said.code == 2 and "nets/toy.py-linear.safetensors is there already, without the checkpoint" in said.err
    assert Path("nets/toy.py-linear.safetensors").read_text() == "mine"
    assert [place.assay(f"{line}-new").code for _ in range(2)] == [0, 0], "the same command goes on"
