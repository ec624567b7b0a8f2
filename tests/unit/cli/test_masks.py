"""`--mask` and `--channels`: what may change is what is said, in the run, the plan, the records and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.evaluation.run import Run
from tests.support.workplace import Workplace

STUDY = """
study: masked
models: toy.py:linear
data: folder:pictures
threats:
  - {norm: linf, eps: [16/255, 64/255], mask: mask.png}
  - {norm: l0, eps: 20, channels: [1]}
attacks: salt-and-pepper
"""
ATTACK = "--model toy.py:linear --data folder:pictures --attack fgsm --display none --no-doctor --audit off"


def save(path: Path, top: int = 1, size: tuple[int, int] = (8, 8), lit: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[top : top + 3, 2:6] = lit
    Image.fromarray(mask).save(path)


def test_a_run_in_a_mask_is_audited_shown_and_resumed(place: Workplace) -> None:
    save(place.folder / "mask.png")
    line = "run --model toy.py:linear --data folder:pictures --attack pgd:steps=20 --eps 16/255,96/255 --display none"
    said = place.assay(f"{line} --mask mask.png --out runs/m")
    assert said.code == 0 and "in mask.png(18.8%)" in said.out
    assert "trusted" in said.out
    run = Run.open(Path("runs/m"))
    records = run.records(["threat", "size_l0", "status"]).to_pylist()
    assert {one["threat"] for one in records} == {"linf mask=mask.png(18.8%)"}
    assert max(one["size_l0"] or 0 for one in records) == 36
    again = place.assay("run runs/m --display none")
    assert again.code == 0 and "nothing was left to do" in again.err
    assert place.assay("audit runs/m").code == 0
    assert place.assay("report runs/m --out page.html").code == 0
    assert "in mask.png(18.8%)" in (place.folder / "page.html").read_text()
    # painted over, it is another mask: its cells run anew
    save(place.folder / "mask.png", top=4)
    other = place.assay(f"{line} --mask mask.png --out runs/m2")
    assert other.code == 0 and not set(Run.open(Path("runs/m2")).cells) & set(run.cells)


def test_a_study_file_with_masks_and_channels(place: Workplace) -> None:
    save(place.folder / "mask.png")
    (place.folder / "masked.yaml").write_text(STUDY)
    assert place.assay("validate masked.yaml").code == 0
    told = json.loads(place.assay("plan masked.yaml --json").out)
    assert [cell["threat"] for cell in told["cells"]] == ["linf mask=mask.png(18.8%)", "l0 channels=1"]
    assert place.assay("run masked.yaml --display none --no-doctor --audit off --out runs/s").code == 0
    sizes = [one["size_l0"] or 0 for one in Run.open(Path("runs/s")).records(["size_l0"]).to_pylist()]
    assert 0 < max(sizes) <= 36


def test_flags_are_laid_over_a_file(place: Workplace) -> None:
    save(place.folder / "mask.png")
    save(place.folder / "other.png", top=4)
    (place.folder / "masked.yaml").write_text(STUDY)
    told = json.loads(place.assay("plan masked.yaml --mask other.png --channels 0,2 --json").out)
    assert [cell["threat"] for cell in told["cells"]] == [
        "linf mask=other.png(12.5%) channels=0,2",
        "l0 mask=other.png(12.5%) channels=0,2",
    ]


def test_a_folder_of_masks_for_workers(place: Workplace) -> None:
    for label in range(3):
        for i in range(6):
            save(place.folder / "masks" / str(label) / f"{i}.png", top=i % 5)
    said = place.assay(f"run {ATTACK} --eps 64/255 --mask masks --workers 2 --out runs/w")
    assert said.code == 0
    sizes = {one["size_l0"] for one in Run.open(Path("runs/w")).records(["size_l0"]).to_pylist()}
    assert max(size or 0 for size in sizes) == 36


@pytest.mark.parametrize(
    ("mask", "more", "message"),
    [
        ({"lit": 0}, "--mask mask.png", "The mask mask.png is empty"),
        ({"size": (9, 7)}, "--mask mask.png", "is 1 x 9 x 7, the images are 3 x 8 x 8"),
        ({}, "--mask mas.png", "There is no mask mas.png. Did you mean 'mask.png'?"),
        ({}, "--mask pictures/0", "would be the mask of both"),
        ({}, "--mask elsewhere", "18 of 18 samples have no mask in elsewhere: 0/0.png, 0/1.png, 0/2.png, …"),
        ({}, "--channels 3", "channels holds 3"),
        ({}, "--channels red", "--channels: "),
        ({}, "--channels 1,1", "--channels: "),
    ],
)
def test_slips(place: Workplace, mask: dict[str, object], more: str, message: str) -> None:
    save(place.folder / "elsewhere" / "any.png")
    save(place.folder / "mask.png", **mask)  # type: ignore[arg-type]  # a table of cases
    for command in ("plan", "run"):
        flags = ATTACK if command == "run" else ATTACK.partition(" --display")[0]
        said = place.assay(f"{command} {flags} --eps 16/255 {more}")
        assert said.code == 2
        assert message in said.err
        assert "Traceback" not in said.err


def test_a_plan_notes_a_mask_of_everything(place: Workplace) -> None:
    Image.new("L", (8, 8), 1).save(place.folder / "mask.png")
    said = place.assay(f"plan {ATTACK.partition(' --display')[0]} --eps 16/255 --mask mask.png")
    assert "every value may change, so that the mask limits nothing" in said.out
