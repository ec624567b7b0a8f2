"""Table VII on the stand-in, from the command to the page: patches trained, stopped, resumed, measured and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import assay.patches
from assay.evaluation.run import Run
from assay.patches import Patch
from tests.support.workplace import Workplace

COMMAND = "paper run --stand-in --table VII --mode corrected --limit 3 --out out --display none --no-doctor"
TARGETS = ("saltshaker", "soap dispenser", "digital clock", "piggy bank", "toaster")
FOLDER = Path("out/patches-stand-in/corrected")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    monkeypatch.chdir(tmp_path)
    # one step instead of forty: what is measured is then weak, and measured all the same
    monkeypatch.setattr("assay.paper.patches.STAND_IN_EPOCHS", 1)
    return Workplace(tmp_path, capsys)


def test_table_vii_from_the_command_to_the_page(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    train, started = assay.patches.train_patch, []

    def stop_at_the_third(*given: Any, **more: Any) -> object:
        started.append(given)
        if len(started) == 3:
            raise KeyboardInterrupt
        return train(*given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(assay.patches, "train_patch", stop_at_the_third)
        stopped = place.assay(COMMAND)
    assert stopped.code == 130
    assert f"What is finished is kept; the same command continues:\n  assay {COMMAND}" in stopped.err
    kept = {path: path.stat().st_mtime_ns for path in FOLDER.glob("*.safetensors")}
    assert sorted(path.stem for path in kept) == ["resnet101-saltshaker-32", "resnet101-saltshaker-48"]

    said = place.assay(COMMAND)
    assert said.code == 0, said.err
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert len(list(FOLDER.glob("*.safetensors"))) == len(list(FOLDER.glob("*.png"))) == 15
    assert "Stand-in: not comparable with the paper." in said.out and "steps of Adam" in said.out
    assert "difference" not in said.out

    patch = Patch.load(FOLDER / "resnet101-toaster-64.safetensors")
    assert (patch.target, patch.target_name, patch.size) == (859, "toaster", "64 x 64")
    assert "efficientnet-lite0" in patch.facts["models"] and patch.facts["published"] == "False"
    run = Run.open("out/table-vii-corrected-stand-in")
    records = run.records(["cell", "sample_id", "target_rank"])
    # fifteen patches at four places, on three of the pictures held out
    assert records.num_rows == 15 * 4 * 3 and len(set(records["sample_id"].to_pylist())) == 3
    assert all(1 <= rank <= 1000 for rank in records["target_rank"].to_pylist())

    again = place.assay(COMMAND)
    assert (again.code, again.out) == (0, said.out)
    assert "(nothing was left to do)" in again.err
    other = place.assay(COMMAND.replace("--limit 3", "--limit 2"))
    assert other.code == 2
    assert "was trained on other pictures than those asked for now. Use another --out, or delete it." in other.err

    reported = place.assay("paper report --out out")
    assert reported.code == 0, reported.err
    page = Path("out/paper.html").read_text("utf-8")
    assert page.count('id="figure-4-') >= 5 and 'id="figure-3"' in page
    assert all(f"patch: {target}" in page for target in TARGETS)
    # each erratum once in each section that it concerns
    assert page.count("Toaster at 32 pixels is printed 48.69") == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_table_vii_as_published_on_all_pictures(place: Workplace) -> None:
    line = COMMAND.replace("corrected", "as_published").replace(" --limit 3", "")
    said = place.assay(line)
    assert said.code == 0, said.err
    patch = Patch.load("out/patches-stand-in/as_published/resnet101-toaster-64.safetensors")
    assert patch.facts["published"] == "True" and "15 images" in patch.facts["data"]
    run = Run.open("out/table-vii-as-published-stand-in")
    # one to four patches on all twenty pictures
    assert run.records(["cell"]).num_rows == 15 * 4 * 20
    assert len(run.cells) == 15
    eps = sorted({float(spec["eps"][-1]) / float(spec["eps"][0]) for spec in run.cells.values()})
    assert eps == [4.0]
